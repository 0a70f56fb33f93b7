import dataclasses
import hashlib
import json
import pathlib
from unittest import mock

from absl.testing import parameterized
import numpy as np

from adq_jax import AdaptiveQuantizer
from adq_jax import Stream
from adq_jax.streams import coded_rate
from adq_jax.streams import symbols
from experiments import files
from experiments.errors import UserError
from experiments.tokens import file_header
from experiments.tokens import token_file
from experiments.tokens.chunk import Chunk
from tests.support import old_tokens
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
    ((Stream("x", 2**24), Stream("y", 2**31 - 1), Stream("z", 70_000)),),
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
    streams = (Stream("index", 256),)
    chunk = Chunk(("a",), 1, 4, (np.array([1, 2, 3, 4]),))
    token_files.write(
      self.path, token_files.header(streams, num_images=1), [chunk]
    )
    content = self.path.read_bytes()
    self.assertEqual(content[:10], b"\x89ADQTOK\n\0\3")
    end = token_files.START + int.from_bytes(content[10:14])
    header = json.loads(content[token_files.START : end])
    self.assertEqual(
      header["streams"], [token_files.fields_of(name="index", alphabet=256)]
    )
    self.assertIsNone(header["tables"])
    self.assertEqual(content[-32:], hashlib.sha256(content[:-32]).digest())

  def test_the_size_is_what_the_coded_rate_promises(self):
    rng = np.random.default_rng(0)
    structures = ((512, 128), (1024, 64), (2048, 32), (65_536, 1))
    streams = AdaptiveQuantizer(structures, 128).streams
    of_books = rng.dirichlet(np.ones(4))
    of_codes = [rng.dirichlet(np.full(n, 0.3)) for n, _ in structures]

    def draw(n):
      book = rng.choice(4, n, p=of_books)
      counts = np.bincount(book, minlength=4)
      indices = [
        rng.choice(len(p), k, p=p)
        for p, k in zip(of_codes, counts, strict=True)
      ]
      return [book, *indices]

    def count(codes):
      pairs = zip(codes, symbols(streams), strict=True)
      return [np.bincount(c, minlength=s.alphabet) for c, s in pairs]

    reference = count(draw(300_000))
    found, tables = token_files.frequencies_of(streams, reference)
    for n, side in ((20, 56), (1, 8)):
      codes = draw(n * side**2)
      rate = coded_rate(symbols(streams), count(codes), reference, n * side**2)
      chunk = Chunk(tuple(map(str, range(n))), side, side, tuple(codes))
      header = token_files.header(
        file_header.bare(streams), num_images=n, tables=tables
      )
      (size,) = token_files.write(self.path, header, [chunk], found)
      promised = float(rate) * n * side**2 / 8
      self.assertBetween(size, promised, 1.001 * promised + 64)
      (read,) = token_file.Reader(self.path).chunks(found)
      token_files.check_same(read, chunk)

  def test_other_frequencies_or_none(self):
    counts = [np.arange(7)]
    found, tables = token_files.frequencies_of(token_files.ONE, counts)
    header = token_files.header(token_files.ONE, tables=tables)
    wanted = list(token_files.chunks(token_files.ONE))
    token_files.write(self.path, header, wanted, found)
    reader = token_file.Reader(self.path)
    other, _ = token_files.frequencies_of(token_files.ONE, [np.arange(7) + 1])
    for wrong, message in (
      (None, "is coded by the frequencies of its model, which lack; take"),
      (other, "is coded by other frequencies than these; take .* of step 6"),
    ):
      with self.assertRaisesRegex(UserError, message):
        reader.chunks(wrong)
    with self.assertRaisesRegex(UserError, "model, which lack"):
      iter(reader)
    for chunk, own in zip(reader.chunks(found), wanted, strict=True):
      token_files.check_same(chunk, own)
    with self.subTest("rows that there are not"):
      tables = dataclasses.replace(tables, row=1)
      self._with_header({"tables": dataclasses.asdict(tables)})
      with self.assertRaisesRegex(UserError, "row 1 and weight 0 are of other"):
        token_file.Reader(self.path).chunks(found)

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
    self.path.write_bytes(content[:9] + b"\4" + content[10:])
    with self.assertRaisesRegex(UserError, "version 4; .* versions 1 to 3"):
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
    {"streams": [token_files.fields_of(group=0)]},
    {"streams": [token_files.fields_of(group="../x")]},
    {"tables": 1},
    {"tables": {"sha256": "x", "row": 0}},
    {"tables": {"sha256": "x", "row": -1, "weight": 0}},
    {"tables": {"sha256": "x", "row": 0, "weight": 257}},
    {"tables": {"sha256": 0, "row": 0, "weight": 0}},
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
    # The second version could name what is no text.
    fields = old_tokens.fields_of(token_files.header(num_images=1))
    dump = json.dumps
    with mock.patch.object(json, "dumps", lambda *a, **k: dump(*a)):
      old_tokens.write_second(self.path, fields, token_files.POOL, [chunk])
    with self.assertRaisesRegex(UserError, "is damaged, "):
      list(token_file.Reader(self.path))
