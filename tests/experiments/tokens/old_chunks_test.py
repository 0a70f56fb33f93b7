import dataclasses
import pathlib

from absl.testing import parameterized
import numpy as np

from adq_jax import AdaptiveQuantizer
from adq_jax import Stream
from experiments.errors import UserError
from experiments.tokens import token_file
from experiments.tokens.chunk import Chunk
from tests.support import old_tokens
from tests.support import token_files


class OldChunksTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.path = pathlib.Path(self.create_tempdir()) / "x.tokens"

  @parameterized.parameters(((16, 100, 1),), ((7,),))
  def test_files_of_the_first_version(self, sizes):
    rng = np.random.default_rng(0)
    fields = old_tokens.fields_of(token_files.header())
    book = rng.integers(0, len(sizes), (5, 3, 5)).astype(np.int32)
    indices = [
      rng.integers(0, n, (book == i).sum()) for i, n in enumerate(sizes)
    ]
    names = [f"{i}.png" for i in range(5)]
    structures = [[n, 2] for n in sizes]
    chunks = [(names, book, indices)]
    old_tokens.write_first(self.path, fields, structures, chunks)
    reader = token_file.Reader(self.path)
    self.assertEqual(reader.header.version, 1)
    (chunk,) = reader
    codes = indices if len(sizes) == 1 else [book.reshape(-1), *indices]
    token_files.check_same(chunk, Chunk(tuple(names), 3, 5, tuple(codes)))
    with self.subTest("whose streams had no names"):
      pool = AdaptiveQuantizer(tuple((n, 2) for n in sizes), 4)
      self.assertTrue(reader.header.is_of(pool.streams))
      self.assertFalse(reader.header.is_of(token_files.LEVELS))

  @parameterized.parameters(
    (token_files.POOL,),
    (token_files.ONE,),
    (token_files.GRIDS,),
    (token_files.LEVELS,),
    (token_files.DEPTHS,),
    ((Stream("x", 2**24), Stream("none", 3, coding="entropy")),),
  )
  def test_files_of_the_second_version(self, streams):
    wanted = list(token_files.chunks(streams))
    if streams[-1].name == "none":
      none = np.zeros(0, np.int32)
      wanted = [
        dataclasses.replace(chunk, codes=(chunk.codes[0], none))
        for chunk in wanted
      ]
    fields = old_tokens.fields_of(token_files.header())
    old_tokens.write_second(self.path, fields, streams, wanted)
    reader = token_file.Reader(self.path)
    self.assertEqual(reader.header.version, 2)
    for found, chunk in zip(reader, wanted, strict=True):
      token_files.check_same(found, chunk)
    with self.subTest("whose streams had no groups"):
      grouped = [dataclasses.replace(s, group="all") for s in streams]
      self.assertTrue(reader.header.is_of(grouped))
      self.assertFalse(reader.header.is_of(grouped[1:]))

  def test_damage_of_the_second_version(self):
    streams = (Stream("index", 7), Stream("book", 2, coding="entropy"))
    chunk = Chunk(("a",), 1, 2, (np.array([3, 5]), np.array([0, 1])))
    fields = old_tokens.fields_of(token_files.header())
    old_tokens.write_second(self.path, fields, streams, [chunk])
    content = self.path.read_bytes()
    numbers = [5, 1, 2, 2, 2, 12]  # of names, h, w, counts, coded bytes
    place = content.index(np.array(numbers, ">u4").tobytes())
    for i, number, message in (
      (0, 2**32 - 1, "its names are too long"),
      (1, 2**31, "pixels are in a chunk"),
      (3, 2**32 - 1, "more codes than positions"),
      (4, 0, "book has no codes, and bytes"),
      (5, 2**32 - 1, "it is cut short"),
    ):
      bad = np.array([*numbers[:i], number, *numbers[i + 1 :]], ">u4").tobytes()
      changed = content[:place] + bad + content[place + len(bad) :]
      self.path.write_bytes(token_files.rehash(changed))
      with self.assertRaisesRegex(UserError, f"is damaged, .*{message}"):
        list(token_file.Reader(self.path))
