import dataclasses
import hashlib
import json
import pathlib

from absl.testing import parameterized
import numpy as np

from experiments import tokens
from experiments.errors import UserError

POOL = ((16, 4), (100, 2), (1, 3))
START = 14  # bytes before the header


def header(structures=POOL, **fields):
  values = {
    "name": "photo_patches",
    "variant": "adaptive",
    "step": 6,
    "model": "0" * 64,
    "channels": 3,
    "downsampling": 4,
    "num_images": 5,
  }
  return tokens.Header(structures=structures, **{**values, **fields})


def chunks(structures=POOL, height=3, width=5, counts=(4, 1), seed=0):
  rng = np.random.default_rng(seed)
  first = 0
  for n in counts:
    book = rng.integers(0, len(structures), (n, height, width))
    yield tokens.Chunk(
      tuple(f"ä/{first + i}.png" for i in range(n)),
      book.astype(np.int32),
      tuple(
        rng.integers(0, size, (book == i).sum()).astype(np.int32)
        for i, (size, _) in enumerate(structures)
      ),
    )
    first += n


def write(path, head, written):
  with open(path, "wb") as file:
    writer = tokens.Writer(file, head)
    sizes = [writer.write(chunk) for chunk in written]
    writer.finish()
  return sizes


def rehash(content):
  """Somebody who changes a file can give it the right hash too."""
  return content[:-32] + hashlib.sha256(content[:-32]).digest()


class TokensTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.path = pathlib.Path(self.create_tempdir()) / "x.tokens"

  @parameterized.parameters((POOL,), (((7, 3),),), (((2**24, 8),),))
  def test_there_and_back(self, structures):
    write(self.path, header(structures), chunks(structures))
    reader = tokens.Reader(self.path)
    self.assertEqual(reader.header, header(structures))
    for _ in range(2):  # it can be read again
      for found, wanted in zip(reader, chunks(structures), strict=True):
        self.assertEqual(found.names, wanted.names)
        np.testing.assert_array_equal(found.book, wanted.book)
        for a, b in zip(found.indices, wanted.indices, strict=True):
          np.testing.assert_array_equal(a, b)

  @parameterized.parameters((5, 12), (5, 5), (1, 100_000))
  def test_fewer_images_than_were_promised(self, count, promised):
    with open(self.path, "x+b") as file:
      writer = tokens.Writer(file, header(num_images=promised))
      for chunk in chunks(counts=(count,)):
        writer.write(chunk)
      writer.finish()
    reader = tokens.Reader(self.path)
    self.assertEqual(reader.header, header(num_images=count))
    (found,) = reader
    (wanted,) = chunks(counts=(count,))
    np.testing.assert_array_equal(found.book, wanted.book)

  @parameterized.parameters(np.uint8, np.int8, np.uint16, np.int64, np.uint64)
  def test_codes_of_any_type_of_integers(self, dtype):
    write(
      self.path,
      header(),
      (
        dataclasses.replace(
          chunk,
          book=chunk.book.astype(dtype),
          indices=tuple(index.astype(dtype) for index in chunk.indices),
        )
        for chunk in chunks()
      ),
    )
    for found, wanted in zip(tokens.Reader(self.path), chunks(), strict=True):
      np.testing.assert_array_equal(found.book, wanted.book)
      for a, b in zip(found.indices, wanted.indices, strict=True):
        np.testing.assert_array_equal(a, b)

  def test_codes_that_are_none(self):
    (chunk,) = chunks(counts=(2,))
    for changes, message in (
      ({"book": chunk.book + 1}, r"not in \[0, 3\)"),
      ({"book": chunk.book - 1}, r"not in \[0, 3\)"),
      ({"book": chunk.book.astype(np.float32)}, "must be integers"),
      ({"indices": tuple(i + 0.5 for i in chunk.indices)}, "must be integers"),
      ({"indices": tuple(i - 50 for i in chunk.indices)}, r"not in \[0, 16\)"),
    ):
      with self.assertRaisesRegex(ValueError, message):
        write(self.path, header(), [dataclasses.replace(chunk, **changes)])

  def test_the_bytes_are_those_of_the_description(self):
    book = np.zeros((1, 1, 2), np.int32)
    chunk = tokens.Chunk(("a",), book, (np.array([3, 5]),))
    write(self.path, header(((8, 2),), num_images=1), [chunk])
    content = self.path.read_bytes()
    self.assertEqual(content[:10], b"\x89ADQTOK\n\0\1")
    end = START + int.from_bytes(content[10:14])
    self.assertEqual(json.loads(content[START:end])["structures"], [[8, 2]])
    numbers = np.frombuffer(content[end : end + 20], ">u4").tolist()
    self.assertEqual(numbers, [5, 1, 2, 0, 2])
    self.assertEqual(content[end + 20 : -32], b'["a"]' + b"\x74")  # 011 101
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
    chunk = tokens.Chunk(names, book.astype(np.int32), tuple(indices))
    (size,) = write(self.path, header(structures, num_images=20), [chunk])
    p = np.bincount(book.reshape(-1), minlength=m) / book.size
    bits = np.log2([n for n, _ in structures])
    rate = p @ bits - sum(x * np.log2(x) for x in p if x)
    promised = rate * book.size / 8
    # As the description says; of 1,000 codewords six take 60 bits.
    beyond = 21 if m == 1 else 24 + 7 * m + 0.001 * book.size / 8
    if structures[0][0] == 1000:
      beyond += (60 / 6 - np.log2(1000)) * book.size / 8
    self.assertLess(size, promised + beyond)
    self.assertGreater(size, promised)
    # In the file there are the header, the names and the hash too.
    self.assertLess(self.path.stat().st_size, size + 2000)

  @parameterized.parameters(0, 5, 9, 30, -40, -1)
  def test_a_flipped_bit_is_found(self, place):
    write(self.path, header(), chunks())
    content = bytearray(self.path.read_bytes())
    content[place] ^= 1
    self.path.write_bytes(content)
    with self.assertRaisesRegex(UserError, "x.tokens is (damaged|no|of vers)"):
      tokens.Reader(self.path)

  def test_cut_short_or_something_else(self):
    write(self.path, header(), chunks())
    content = self.path.read_bytes()
    for length in (8, 13, 60, len(content) // 2, len(content) - 1):
      self.path.write_bytes(content[:length])
      with self.assertRaisesRegex(UserError, "is damaged, .*fetch it again"):
        tokens.Reader(self.path)
    for other in (b"", b"PK\3\4" + content):
      self.path.write_bytes(other)
      with self.assertRaisesRegex(UserError, "is no token file; name one"):
        tokens.Reader(self.path)
    self.path.write_bytes(content[:9] + b"\2" + content[10:])
    with self.assertRaisesRegex(UserError, "version 2; .* version 1"):
      tokens.Reader(self.path)
    self.path.unlink()
    with self.assertRaisesRegex(UserError, "cannot be read"):
      tokens.Reader(self.path)

  def _with_header(self, change):
    write(self.path, header(), chunks())
    content = self.path.read_bytes()
    end = START + int.from_bytes(content[10:14])
    changed = json.dumps({**json.loads(content[START:end]), **change}).encode()
    size = len(changed).to_bytes(4)
    self.path.write_bytes(rehash(content[:10] + size + changed + content[end:]))

  @parameterized.parameters(
    {"step": -1},
    {"step": True},
    {"downsampling": 0},
    {"num_images": 1.5},
    {"num_images": 2**70},
    {"name": "../x"},
    {"model": 3},
    {"structures": []},
    {"structures": [[0, 1]]},
    {"structures": [[2**31, 1]]},
    {"structures": [[8, 1]] * 257},
    {"structures": "8x1"},
    {"surprise": 1},
    {"name": "x" * 70_000},
  )
  def test_a_wrong_header_with_the_right_hash(self, **change):
    self._with_header(change)
    with self.assertRaisesRegex(UserError, "is damaged, its header is"):
      tokens.Reader(self.path)

  @parameterized.parameters(
    {"num_images": 4},  # then there is more
    {"num_images": 6},
    {"structures": [[16, 4], [100, 2]]},
    {"structures": [[15, 4], [100, 2], [1, 3]]},
    {"downsampling": 60_000},
  )
  def test_a_header_that_does_not_go_with_the_chunks(self, **change):
    self._with_header(change)
    with self.assertRaisesRegex(UserError, "is damaged, "):
      list(tokens.Reader(self.path))

  @parameterized.parameters(
    "/etc/passwd", "../x.png", "a/../../x", "", "a//b", "./a", "a/", "a\\b",
    "a\nb", "\x1b[2J", "x" * 2000, "\ud800", 7, None, (["a"],),
  )  # fmt: skip
  def test_a_name_that_leaves_its_folder(self, name):
    with self.assertRaises(ValueError):
      tokens.check_name(name)
    (chunk,) = chunks(counts=(1,))
    chunk = dataclasses.replace(chunk, names=(name,))
    dump = json.dumps  # of what `Writer` cannot write as UTF-8
    with self.subTest("in a file"):
      write(
        self.path,
        header(num_images=1),
        [dataclasses.replace(chunk, names=("placeholder",))],
      )
      content = self.path.read_bytes()
      old, new = dump(["placeholder"]).encode(), dump([name]).encode()
      place = content.index(old) - 4 * (4 + len(POOL))
      size = len(new).to_bytes(4)
      content = content[:place] + size + content[place + 4 :].replace(old, new)
      self.path.write_bytes(rehash(content))
      with self.assertRaisesRegex(UserError, "is damaged, "):
        list(tokens.Reader(self.path))

  def test_no_absurd_allocation(self):
    # Codebooks of one codeword take no bits at all.
    structures = ((1, 1),)
    (chunk,) = chunks(structures, counts=(1,))
    write(self.path, header(structures, num_images=1), [chunk])
    content = self.path.read_bytes()
    sides = content.rindex(np.array([3, 5], ">u4").tobytes())
    for height, width, count in (
      (2**31, 2**31, 15),
      (1025, 1024, 15),
      (0, 0, 0),
      (3, 5, 2**32 - 1),
    ):
      numbers = np.array([height, width, 0, count], ">u4").tobytes()
      bad = content[:sides] + numbers + content[sides + 16 :]
      self.path.write_bytes(rehash(bad))
      with self.assertRaisesRegex(UserError, "pixels|more indices than pos"):
        list(tokens.Reader(self.path))
