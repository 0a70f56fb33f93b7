import dataclasses
import pathlib

from absl.testing import parameterized
import numpy as np

from adq_jax import AdaptiveQuantizer
from experiments.tokens import token_file
from experiments.tokens.chunk import Chunk
from tests.support import first_tokens
from tests.support import token_files


class OldChunksTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.path = pathlib.Path(self.create_tempdir()) / "x.tokens"

  @parameterized.parameters(((16, 100, 1),), ((7,),))
  def test_files_of_the_first_version(self, sizes):
    rng = np.random.default_rng(0)
    fields = dataclasses.asdict(token_files.header())
    for name in ("streams", "version"):
      del fields[name]
    book = rng.integers(0, len(sizes), (5, 3, 5)).astype(np.int32)
    indices = [
      rng.integers(0, n, (book == i).sum()) for i, n in enumerate(sizes)
    ]
    names = [f"{i}.png" for i in range(5)]
    structures = [[n, 2] for n in sizes]
    first_tokens.write(self.path, fields, structures, [(names, book, indices)])
    reader = token_file.Reader(self.path)
    self.assertEqual(reader.header.version, 1)
    (chunk,) = reader
    codes = indices if len(sizes) == 1 else [book.reshape(-1), *indices]
    token_files.check_same(chunk, Chunk(tuple(names), 3, 5, tuple(codes)))
    with self.subTest("whose streams had no names"):
      pool = AdaptiveQuantizer(tuple((n, 2) for n in sizes), 4)
      self.assertTrue(reader.header.is_of(pool.streams))
      self.assertFalse(reader.header.is_of(token_files.LEVELS))
