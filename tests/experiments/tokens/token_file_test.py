import dataclasses
import hashlib
import json
import pathlib

from absl.testing import parameterized
import numpy as np

from adq_jax import AdaptiveQuantizer
from adq_jax import Stream
from experiments import files
from experiments.errors import UserError
from experiments.tokens import file_header
from experiments.tokens import token_file
from experiments.tokens.chunk import Chunk
from tests.support import token_files


class TokensTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.path = pathlib.Path(self.create_tempdir()) / "x.tokens"

  @parameterized.parameters(
    (token_files.POOL,),
    (token_files.ONE,),
    (token_files.GRIDS,),
    (token_files.LEVELS,),
    (token_files.DEPTHS,),
    ((Stream("x", 2**24),),),
  )
  def test_there_and_back(self, *streams):
    (streams,) = streams
    token_files.write(
      self.path, token_files.header(streams), token_files.chunks(streams)
    )
    reader = token_file.Reader(self.path)
    self.assertEqual(reader.header, token_files.header(streams))
    for _ in range(2):  # it can be read again
      for found, wanted in zip(
        reader, token_files.chunks(streams), strict=True
      ):
        token_files.check_same(found, wanted)

  def test_a_stream_that_has_no_code_at_all(self):
    streams = (Stream("top", 4), Stream("rest", 3, coding="entropy"))
    none = np.zeros(0, np.int32)
    wanted = Chunk(("a",), 1, 2, (np.array([3, 0]), none))
    token_files.write(
      self.path, token_files.header(streams, num_images=1), [wanted]
    )
    (found,) = token_file.Reader(self.path)
    token_files.check_same(found, wanted)

  @parameterized.parameters((5, 12), (5, 5), (1, 100_000))
  def test_fewer_images_than_were_promised(self, count, promised):
    with open(self.path, "x+b") as file:
      writer = token_file.Writer(file, token_files.header(num_images=promised))
      for chunk in token_files.chunks(counts=(count,)):
        writer.write(chunk)
      writer.finish()
    reader = token_file.Reader(self.path)
    self.assertEqual(reader.header, token_files.header(num_images=count))
    (found,) = reader
    (wanted,) = token_files.chunks(counts=(count,))
    token_files.check_same(found, wanted)

  @parameterized.parameters(np.uint8, np.int8, np.uint16, np.int64, np.uint64)
  def test_codes_of_any_type_of_integers(self, dtype):
    token_files.write(
      self.path,
      token_files.header(),
      (
        dataclasses.replace(
          chunk, codes=tuple(codes.astype(dtype) for codes in chunk.codes)
        )
        for chunk in token_files.chunks()
      ),
    )
    for found, wanted in zip(
      token_file.Reader(self.path), token_files.chunks(), strict=True
    ):
      token_files.check_same(found, wanted)

  def test_codes_that_are_none(self):
    (chunk,) = token_files.chunks(counts=(2,))
    book, *indices = chunk.codes
    for codes, message in (
      ((book + 1, *indices), r"not in \[0, 3\)"),
      ((book - 1, *indices), r"not in \[0, 3\)"),
      ((book.astype(np.float32), *indices), "must be integers"),
      ((book, *(i + 0.5 for i in indices)), "must be integers"),
      ((book, *(i - 50 for i in indices)), r"not in \[0, 16\)"),
    ):
      with self.assertRaisesRegex(ValueError, message):
        token_files.write(
          self.path,
          token_files.header(),
          [dataclasses.replace(chunk, codes=codes)],
        )

  def test_the_bytes_are_those_of_the_description(self):
    streams = (Stream("index", 8),)
    chunk = Chunk(("a",), 1, 2, (np.array([3, 5]),))
    token_files.write(
      self.path, token_files.header(streams, num_images=1), [chunk]
    )
    content = self.path.read_bytes()
    self.assertEqual(content[:10], b"\x89ADQTOK\n\0\2")
    end = token_files.START + int.from_bytes(content[10:14])
    self.assertEqual(
      json.loads(content[token_files.START : end])["streams"],
      [{"name": "index", "alphabet": 8, "stride": 1, "coding": "fixed"}],
    )
    numbers = np.frombuffer(content[end : end + 16], ">u4").tolist()
    self.assertEqual(numbers, [5, 1, 2, 2])
    self.assertEqual(content[end + 16 : -32], b'["a"]' + b"\x74")  # 011 101
    self.assertEqual(content[-32:], hashlib.sha256(content[:-32]).digest())

  @parameterized.parameters(
    (((512, 128),), 1.0),
    (((1000, 16),), 1.0),
    (((512, 128), (1024, 64), (2048, 32), (65_536, 1)), 1.0),
    (((512, 128), (1024, 64), (2048, 32), (65_536, 1)), 0.05),
    (tuple((2 ** (9 + i), 128 >> i) for i in range(8)), 0.6),
  )
  def test_the_size_is_what_the_rate_promises(self, structures, evenness):
    rng = np.random.default_rng(0)
    m = len(structures)
    shares = evenness ** np.arange(m)
    book = rng.choice(m, (20, 56, 56), p=shares / shares.sum())
    indices = [
      rng.integers(0, n, (book == i).sum())
      for i, (n, _) in enumerate(structures)
    ]
    names = tuple(map(str, range(20)))
    codes = indices if m == 1 else [book.reshape(-1), *indices]
    chunk = Chunk(names, 56, 56, tuple(codes))
    streams = AdaptiveQuantizer(structures, 128).streams
    (size,) = token_files.write(
      self.path,
      token_files.header(file_header.bare(streams), num_images=20),
      [chunk],
    )
    p = np.bincount(book.reshape(-1), minlength=m) / book.size
    bits = np.log2([n for n, _ in structures])
    rate = p @ bits - sum(x * np.log2(x) for x in p if x)
    promised = rate * book.size / 8
    # As the description says; of 1,000 codewords six take 60 bits.
    beyond = 21 if m == 1 else 28 + 7 * m + 0.001 * book.size / 8
    if structures[0][0] == 1000:
      beyond += (60 / 6 - np.log2(1000)) * book.size / 8
    self.assertLess(size, promised + beyond)
    self.assertGreater(size, promised)
    # In the file there are the header, the names and the hash too.
    self.assertLess(self.path.stat().st_size, size + 2000)

  @parameterized.parameters(0, 5, 9, 30, -40, -1)
  def test_a_flipped_bit_is_found(self, place):
    token_files.write(self.path, token_files.header(), token_files.chunks())
    content = bytearray(self.path.read_bytes())
    content[place] ^= 1
    self.path.write_bytes(content)
    with self.assertRaisesRegex(UserError, "x.tokens is (damaged|no|of vers)"):
      token_file.Reader(self.path)

  def test_cut_short_or_something_else(self):
    token_files.write(self.path, token_files.header(), token_files.chunks())
    content = self.path.read_bytes()
    for length in (8, 13, 60, len(content) // 2, len(content) - 1):
      self.path.write_bytes(content[:length])
      with self.assertRaisesRegex(UserError, "is damaged, .*fetch it again"):
        token_file.Reader(self.path)
    for other in (b"", b"PK\3\4" + content):
      self.path.write_bytes(other)
      with self.assertRaisesRegex(UserError, "is no token file; name one"):
        token_file.Reader(self.path)
    self.path.write_bytes(content[:9] + b"\3" + content[10:])
    with self.assertRaisesRegex(UserError, "version 3; .* versions 1 to 2"):
      token_file.Reader(self.path)
    self.path.unlink()
    with self.assertRaisesRegex(UserError, "cannot be read"):
      token_file.Reader(self.path)

  def _with_header(self, change):
    token_files.write(self.path, token_files.header(), token_files.chunks())
    content = self.path.read_bytes()
    end = token_files.START + int.from_bytes(content[10:14])
    changed = json.dumps(
      {**json.loads(content[token_files.START : end]), **change}
    ).encode()
    size = len(changed).to_bytes(4)
    self.path.write_bytes(
      token_files.rehash(content[:10] + size + changed + content[end:])
    )

  @parameterized.parameters(
    {"step": -1},
    {"step": True},
    {"downsampling": 0},
    {"num_images": 1.5},
    {"num_images": 2**70},
    {"name": "../x"},
    {"model": 3},
    {"streams": []},
    {"streams": [token_files.fields_of(alphabet=0)]},
    {"streams": [token_files.fields_of(alphabet=2**31)]},
    {"streams": [token_files.fields_of(alphabet=257, coding="entropy")]},
    {"streams": [token_files.fields_of(alphabet=True)]},
    {"streams": [token_files.fields_of(stride=0)]},
    {"streams": [token_files.fields_of(stride=1.0)]},
    {"streams": [token_files.fields_of(coding="gzip")]},
    {"streams": [token_files.fields_of(coding=["fixed"])]},
    {"streams": [token_files.fields_of(name="../x")]},
    {"streams": [token_files.fields_of(labels=["a"])]},
    {"streams": [token_files.fields_of()] * 513},
    {"streams": [8]},
    {"streams": "8x1"},
    {"surprise": 1},
    {"version": 1},
    {"name": "x" * 70_000},
  )
  def test_a_wrong_header_with_the_right_hash(self, **change):
    self._with_header(change)
    with self.assertRaisesRegex(UserError, "is damaged, its header is"):
      token_file.Reader(self.path)

  @parameterized.parameters(
    {"num_images": 4},  # then there is more
    {"num_images": 6},
    {
      "streams": [
        token_files.fields_of(alphabet=16),
        token_files.fields_of(alphabet=100),
      ]
    },
    {
      "streams": [
        token_files.fields_of(
          alphabet=n, coding="entropy" if n == 3 else "fixed"
        )
        for n in (3, 15, 100, 1)
      ]
    },
    {"downsampling": 60_000},
  )
  def test_a_header_that_does_not_go_with_the_chunks(self, **change):
    self._with_header(change)
    with self.assertRaisesRegex(UserError, "is damaged, "):
      list(token_file.Reader(self.path))

  @parameterized.parameters(
    "/etc/passwd", "../x.png", "a/../../x", "", "a//b", "./a", "a/", "a\\b",
    "a\nb", "\x1b[2J", "x" * 2000, "\ud800", 7, None, (["a"],),
  )  # fmt: skip
  def test_a_name_that_leaves_its_folder(self, name):
    with self.assertRaises(ValueError):
      files.check_name(name)
    (chunk,) = token_files.chunks(counts=(1,))
    chunk = dataclasses.replace(chunk, names=(name,))
    dump = json.dumps  # of what `Writer` cannot write as UTF-8
    with self.subTest("in a file"):
      token_files.write(
        self.path,
        token_files.header(num_images=1),
        [dataclasses.replace(chunk, names=("placeholder",))],
      )
      content = self.path.read_bytes()
      old, new = dump(["placeholder"]).encode(), dump([name]).encode()
      place = content.index(old) - 4 * (3 + len(token_files.POOL) + 1)
      size = len(new).to_bytes(4)
      content = content[:place] + size + content[place + 4 :].replace(old, new)
      self.path.write_bytes(token_files.rehash(content))
      with self.assertRaisesRegex(UserError, "is damaged, "):
        list(token_file.Reader(self.path))

  def test_no_absurd_allocation(self):
    # Codebooks of one codeword take no bits at all.
    streams = (Stream("index", 1),)
    (chunk,) = token_files.chunks(streams, counts=(1,))
    token_files.write(
      self.path, token_files.header(streams, num_images=1), [chunk]
    )
    content = self.path.read_bytes()
    sides = content.rindex(np.array([4, 6], ">u4").tobytes())
    for height, width, count in (
      (2**31, 2**31, 24),
      (1025, 1024, 24),
      (0, 0, 0),
      (4, 6, 2**32 - 1),
    ):
      numbers = np.array([height, width, count], ">u4").tobytes()
      bad = content[:sides] + numbers + content[sides + 12 :]
      self.path.write_bytes(token_files.rehash(bad))
      with self.assertRaisesRegex(UserError, "pixels|more codes than pos"):
        list(token_file.Reader(self.path))
