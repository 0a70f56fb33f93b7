import dataclasses
import lzma
from unittest import mock

from absl.testing import parameterized
import numpy as np

from adq_jax import Stream
from adq_jax.streams import symbols
from experiments import files
from experiments.runs import frequencies
from experiments.tokens import coded_chunks
from experiments.tokens.chunk import Chunk
from tests.support import token_files

NUMBERS = np.dtype(">u4")


def reader_of(content):
  """What `coded_chunks.read` reads by."""
  place = 0

  def read(size):
    nonlocal place
    if size > len(content) - place:
      raise ValueError("it is cut short")
    place += size
    return content[place - size : place]

  return read


def read(content, streams, tables=None):
  header = token_files.header(streams)
  return coded_chunks.read(reader_of(content), header, tables)


def skewed(n, alphabet):
  """Codes whose bits are few."""
  return np.random.default_rng(0).geometric(0.5, n).clip(max=alphabet) - 1


class CodedChunksTest(parameterized.TestCase):
  @parameterized.parameters(
    (token_files.POOL,), (token_files.GRIDS,), (token_files.LEVELS,)
  )
  def test_there_and_back_with_each_kind_of_table(self, streams):
    (chunk,) = token_files.chunks(streams, counts=(4,))
    of = symbols(streams)
    counts = [np.arange(symbol.alphabet) for symbol in of]
    tables = frequencies.of_counts(of, [counts]).mixed(0, 0)
    for known in (None, tables):
      content, _ = coded_chunks.to_bytes(chunk, streams, known)
      token_files.check_same(read(content, streams, known), chunk)

  def test_the_numbers_are_those_of_the_description(self):
    streams = (Stream("a", 256), Stream("b", 512))
    codes = (np.array([1, 2, 3, 4]), np.zeros(2, int))
    chunk = Chunk(("a", "b"), 1, 2, codes)
    content, of_names = coded_chunks.to_bytes(chunk, streams, None)
    numbers = np.frombuffer(content, NUMBERS, 8).tolist()
    self.assertEqual(numbers, [of_names, 1, 2, 2, 4, 2, 0, 0])
    squeezed = content[32 : 32 + of_names]
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 2**20}]
    names = lzma.decompress(squeezed, lzma.FORMAT_RAW, filters=filters)
    self.assertEqual(names, b"a\nb")
    # A code of 256 takes a byte; the last ones may round in the library's way.
    self.assertStartsWith(content[32 + of_names :], b"\1\2\3")
    self.assertLen(content, 32 + of_names + 8)

  def test_the_table_that_is_smallest(self):
    streams = (Stream("index", 64),)
    symbol = symbols(streams)
    right = np.bincount(skewed(1000, 64), minlength=64)
    tables = {
      "none": None,
      "right": frequencies.of_counts(symbol, [[right]]).mixed(0, 0),
      "wrong": frequencies.of_counts(symbol, [[right[::-1]]]).mixed(0, 0),
    }
    even = np.arange(64)

    def kind(codes, known):
      chunk = Chunk(("a",), 40, 50, (codes,))
      content, _ = coded_chunks.to_bytes(chunk, streams, tables[known])
      token_files.check_same(read(content, streams, tables[known]), chunk)
      return int(np.frombuffer(content, NUMBERS, 6)[5])

    self.assertEqual(kind(skewed(2000, 64), "right"), 1)
    self.assertGreater(kind(skewed(2000, 64), "wrong"), 1)
    self.assertGreater(kind(skewed(2000, 64), "none"), 1)
    self.assertEqual(kind(even, "none"), 0)
    self.assertEqual(kind(even, "right"), 0)

  def test_streams_of_a_group_are_one_symbol(self):
    streams = token_files.LEVELS
    codes = skewed(2000, 5)
    chunk = Chunk(("a",), 40, 50, (codes, codes, codes))
    content, _ = coded_chunks.to_bytes(chunk, streams, None)
    token_files.check_same(read(content, streams), chunk)
    alone = [dataclasses.replace(stream, group="") for stream in streams]
    apart, _ = coded_chunks.to_bytes(chunk, alone, None)
    # The second and the third are as the first.
    self.assertLess(len(content), 0.4 * len(apart))

  @parameterized.parameters(np.uint8, np.int8, np.int64, np.uint64)
  def test_joined_codes_of_any_type_of_integers(self, dtype):
    (chunk,) = token_files.chunks(token_files.LEVELS, counts=(4,))
    codes = tuple(codes.astype(dtype) for codes in chunk.codes)
    content, _ = coded_chunks.to_bytes(
      dataclasses.replace(chunk, codes=codes), token_files.LEVELS, None
    )
    token_files.check_same(read(content, token_files.LEVELS), chunk)

  def refused(self, message, content, streams, tables=None):
    with self.assertRaisesRegex(ValueError, message):
      read(content, streams, tables)

  @parameterized.parameters(
    (0, 2**20, "it is cut short"),
    (1, 2**31, "pixels are in a chunk"),
    (1, 0, "^0 pixels"),
    (2, 7, "more codes than positions"),
    (3, 2**20, "it is cut short"),
    (4, 2**32 - 1, "more codes than positions"),
    (4, 1999, "does not sum to its 1999 codes"),
    (4, 0, "does not sum to its 0 codes"),
    (5, 0, "do not end where they should"),
    (5, 1, "names no tables of the model"),
    (5, 2, "squeezed"),
  )
  def test_numbers_that_are_wrong(self, place, number, message):
    streams = (Stream("index", 64),)
    chunk = Chunk(("a",), 40, 50, (skewed(2000, 64),))
    content, _ = coded_chunks.to_bytes(chunk, streams, None)
    numbers = np.frombuffer(content, NUMBERS, 6).copy()
    self.assertGreater(numbers[5], 1)
    numbers[place] = number
    changed = numbers.tobytes() + content[24:]
    self.refused(message, changed, streams)

  @parameterized.parameters(
    (b"\0" * 63, "is of another size"),
    (b"\0" * 64 * 3, "is of another size"),
    (b"\0" * 64 * 5, "does not end"),
    (b"\0" * 64, "does not sum to its 2000 codes"),
    (b"\0\0\x07\xd1" + b"\0" * 252, "does not sum to its 2000 codes"),
  )
  def test_tables_that_are_none(self, own, message):
    streams = (Stream("index", 64),)
    chunk = Chunk(("a",), 40, 50, (skewed(2000, 64),))
    squeeze = lzma.compress
    contents = iter([own, None])
    with mock.patch.object(
      lzma, "compress", lambda x, **k: squeeze(next(contents) or x, **k)
    ):
      content, _ = coded_chunks.to_bytes(chunk, streams, None)
    self.refused(message, content, streams)

  def test_tables_of_symbols_that_have_none(self):
    for alphabet in (1, 2**20 + 1):
      streams = (Stream("index", alphabet),)
      chunk = Chunk(("a",), 4, 5, (np.zeros(20, int),))
      content, _ = coded_chunks.to_bytes(chunk, streams, None)
      numbers = np.frombuffer(content, NUMBERS, 6).copy()
      for number in (1, 9):
        numbers[5] = number
        changed = numbers.tobytes() + content[24:]
        self.refused("index has a table, of", changed, streams)

  @parameterized.parameters("../x", "", "/etc/passwd", "a\rb", "x" * 2000)
  def test_a_name_that_leaves_its_folder(self, name):
    streams = (Stream("index", 64),)
    chunk = Chunk((name,), 4, 5, (np.zeros(20, int),))
    with self.assertRaisesRegex(ValueError, "is no|is longer"):
      coded_chunks.to_bytes(chunk, streams, None)
    with mock.patch.object(files, "check_name"):
      content, _ = coded_chunks.to_bytes(chunk, streams, None)
    self.refused("is no|is longer", content, streams)

  def test_groups_and_grids_that_do_not_fit(self):
    (chunk,) = token_files.chunks(token_files.GRIDS, counts=(1,))
    content, _ = coded_chunks.to_bytes(chunk, token_files.GRIDS, None)
    odd = (dataclasses.replace(token_files.GRIDS[0], stride=5), Stream("b", 5))
    self.refused("top does not divide its grid", content, odd)
    joined = [dataclasses.replace(s, group="both") for s in token_files.GRIDS]
    numbers = np.frombuffer(content, NUMBERS, 4).copy()
    changed = numbers.tobytes() + np.zeros(2, NUMBERS).tobytes() + content[32:]
    self.refused("group 'both' has several strides", changed, joined)
