"""Token files: images as codes, in the bits that their rate promises.

A file is, all numbers big-endian,

    magic     8 bytes, 89 "ADQTOK" 0A
    version   16 bits, 1
    size      32 bits, of the header in bytes, at most 65,536
    header    JSON, an object with the fields of `Header`; spaces may follow
    chunks    until they have all of the header's images
    SHA-256   32 bytes, of everything before

and a chunk, of n images of one size, at most 4,096, with m codebooks,

    names     32 bits, the size of the images' names in bytes
    h, w      32 bits each, the positions of an image: its sides, divided by
              the model's downsampling
    books     32 bits, the size of the choice of codebooks in bytes
    counts    m times 32 bits, how many indices each codebook has in the chunk
    names     JSON, a list of n strings: paths that stay in their folder
    books     the codebook of each of the n h w positions, in row-major order,
              by `packing.encode_symbols`; nothing where m is 1
    indices   for each codebook its indices, in the order of the positions that
              have one, by `packing.pack`

The positions that have an index of a codebook are those that chose it, unless
the model decodes a position from several (see `AdaptiveQuantizer.sent`).

So a chunk's codes take the nominal rate, log2 N of each index and the entropy
of the choice; and beyond that, with a single codebook, at most 21 bytes; with
m of them 24 + 7 m bytes and (of eight) 0.001 bits a position.  Where N is no
power of two, an index takes under 1 / k bits more, k being how many of them fit
into 64 bits.
"""

from collections.abc import Iterator
import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import struct
from typing import Any
from typing import BinaryIO

import numpy as np

from experiments import packing
from experiments.errors import one_line
from experiments.errors import UserError
from experiments.limits import MAX_PIXELS

VERSION = 1
MAX_IMAGES = 4096  # of a chunk

_MAGIC = b"\x89ADQTOK\n"
_START = struct.Struct(">8sHI")
_CHUNK = struct.Struct(">4I")
_MAX_HEADER = 2**16
_MAX_NAME = 1024  # bytes
_MAX_NAMES = MAX_IMAGES * _MAX_NAME
_HASH_BYTES = 32
_AT_ONCE = 2**20  # bytes


@dataclasses.dataclass(frozen=True)
class Header:
  """What a token file says of itself.

  Attributes:
    name: of the data set that the model was trained on.
    variant: of its config.
    step: of its checkpoint.
    model: what `checkpoint.identity` says of it.
    structures: (N, D) of each codebook.
    channels: of the images.
    downsampling: pixels a side that a position stands for.
    num_images: in all chunks.
  """

  name: str
  variant: str
  step: int
  model: str
  structures: tuple[tuple[int, int], ...]
  channels: int
  downsampling: int
  num_images: int


@dataclasses.dataclass(frozen=True)
class Chunk:
  """Images of one size.

  Attributes:
    names: of the n images.
    book: the codebook of each position, int32 `[n, h, w]`.
    indices: for each codebook, its indices, int32 `[n_i]`, in the order of the
      positions that have one.
  """

  names: tuple[str, ...]
  book: np.ndarray
  indices: tuple[np.ndarray, ...]


class Writer:
  """Writes a token file, chunk by chunk.

  Attributes:
    num_images: written so far.
  """

  def __init__(self, file: BinaryIO, header: Header):
    """Writes the header.

    Args:
      file: open for writing, and for reading too where fewer images may come
        than the header says.
      header: of the file.
    """
    self._file = file
    self._header = header
    self._sizes = [size for size, _ in header.structures]
    self._hash = hashlib.sha256()
    self.num_images = 0
    content = json.dumps(dataclasses.asdict(header)).encode()
    self._write(_START.pack(_MAGIC, VERSION, len(content)) + content)

  def write(self, chunk: Chunk) -> int:
    """Appends a chunk; returns the bytes of its codes, its names left out.

    Raises:
      ValueError: if a code is out of range.
    """
    names = json.dumps(chunk.names, ensure_ascii=False).encode()
    books = b""
    if len(self._sizes) > 1:
      books = packing.encode_symbols(chunk.book.reshape(-1), len(self._sizes))
    counts = [len(index) for index in chunk.indices]
    head = _CHUNK.pack(len(names), *chunk.book.shape[1:], len(books))
    head += np.array(counts, ">u4").tobytes()
    packed = b"".join(
      packing.pack(index, size)
      for index, size in zip(chunk.indices, self._sizes, strict=True)
    )
    for part in (head, names, books, packed):
      self._write(part)
    self.num_images += len(chunk.names)
    return len(head) + len(books) + len(packed)

  def finish(self) -> None:
    """Writes the hash, after the last chunk.

    Where there were fewer images than the header says, it is put right first.
    """
    if self.num_images < self._header.num_images:
      self._correct_header()
    self._file.write(self._hash.digest())

  def _correct_header(self) -> None:
    # Spaces keep its size.
    size = len(json.dumps(dataclasses.asdict(self._header)).encode())
    right = dataclasses.replace(self._header, num_images=self.num_images)
    content = json.dumps(dataclasses.asdict(right)).encode().ljust(size)
    self._file.seek(_START.size)
    self._file.write(content)
    self._file.seek(0)
    self._hash = _hash_of(self._file, os.fstat(self._file.fileno()).st_size)

  def _write(self, content: bytes) -> None:
    self._hash.update(content)
    self._file.write(content)


class Reader:
  """Reads a token file, trusting nothing in it; iterating gives its chunks.

  Attributes:
    header: what it says of itself.
  """

  def __init__(self, path: pathlib.Path):
    """Reads the header, and compares the hash of the whole file.

    Raises:
      UserError: if there is no such file, it is of another kind or version, or
        damaged; while iterating, too.
    """
    self._path = path
    with self._open() as file:
      self.header = self._read_header(file)
      self._chunks_at = file.tell()
      self._check_hash(file)

  def __iter__(self) -> Iterator[Chunk]:
    seen = 0
    with self._open() as file:
      end = os.fstat(file.fileno()).st_size - _HASH_BYTES
      file.seek(self._chunks_at)
      while seen < self.header.num_images:
        chunk = self._read_chunk(file, end)
        seen += len(chunk.names)
        yield chunk
      if seen != self.header.num_images or file.tell() != end:
        raise self.damaged("it has more than the images that it names")

  def damaged(self, why: str) -> UserError:
    """Returns the error to raise for what is wrong with the file."""
    return UserError(
      f"token file {self._path} is damaged, {why}; fetch it again, or encode"
      " the images again"
    )

  @contextlib.contextmanager
  def _open(self) -> Iterator[BinaryIO]:
    try:
      with open(self._path, "rb") as file:
        yield file
    except OSError as error:
      raise UserError(
        f"token file {self._path} cannot be read ({one_line(error)}); name one"
        " that --mode=encode wrote"
      ) from error

  def _read_header(self, file: BinaryIO) -> Header:
    start = file.read(_START.size)
    if not start.startswith(_MAGIC):
      raise UserError(
        f"{self._path} is no token file; name one that --mode=encode wrote"
      )
    if len(start) < _START.size:
      raise self.damaged("it is cut short")
    _, version, size = _START.unpack(start)
    if version != VERSION:
      raise UserError(
        f"token file {self._path} is of version {version}; this program reads"
        f" version {VERSION}"
      )
    content = file.read(size) if size <= _MAX_HEADER else b""
    if len(content) < size:
      raise self.damaged("its header is cut short")
    try:
      return _header(json.loads(content))
    except (ValueError, TypeError, RecursionError) as error:
      raise self.damaged(f"its header is wrong ({one_line(error)})") from error

  def _check_hash(self, file: BinaryIO) -> None:
    size = os.fstat(file.fileno()).st_size - _HASH_BYTES
    file.seek(0)
    digest = _hash_of(file, size)
    if file.read(_HASH_BYTES) != digest.digest():
      raise self.damaged("its SHA-256 is another")

  def _read_chunk(self, file: BinaryIO, end: int) -> Chunk:
    sizes = [size for size, _ in self.header.structures]

    def read(size: int) -> bytes:
      if size > end - file.tell():
        raise ValueError("it is cut short")
      return file.read(size)

    try:
      size, height, width, books = _CHUNK.unpack(read(_CHUNK.size))
      counts = np.frombuffer(read(4 * len(sizes)), ">u4").tolist()
      if size > _MAX_NAMES:
        raise ValueError("its names are too long")
      names = _names(json.loads(read(size)))
      positions = len(names) * height * width
      pixels = positions * self.header.downsampling**2
      if not 0 < pixels <= MAX_PIXELS:
        raise ValueError(f"{pixels} pixels are in a chunk")
      if max(counts) > positions:
        raise ValueError("it has more indices than positions")
      book = np.zeros(positions, np.int32)
      if len(sizes) > 1:
        book = packing.decode_symbols(read(books), positions, len(sizes))
      elif books:
        raise ValueError("it has a choice among one codebook")
      indices = tuple(
        packing.unpack(read(packing.packed_size(n, base)), n, base)
        for n, base in zip(counts, sizes, strict=True)
      )
    except (ValueError, RecursionError) as error:
      raise self.damaged(one_line(error)) from error
    return Chunk(names, book.reshape(-1, height, width), indices)


def check_name(name: Any) -> None:
  """Raises a ValueError unless `name` is a path that stays in its folder."""
  fault = name_fault(name)
  if fault:
    raise ValueError(f"{name!r:.99} {fault}")


def name_fault(name: Any) -> str | None:
  """Returns why a name is no path that stays in its folder, if it is none."""
  if not isinstance(name, str) or any(c < " " or c == "\x7f" for c in name):
    return "is no name of a file"
  try:
    size = len(name.encode())
  except UnicodeEncodeError:
    return "is no UTF-8"
  if {"", ".", ".."} & set(name.split("/")) or "\\" in name:
    return "is no path inside a folder"
  return f"is longer than {_MAX_NAME} bytes" if size > _MAX_NAME else None


def _hash_of(file: BinaryIO, size: int) -> "hashlib._Hash":
  """The SHA-256 of the next `size` bytes."""
  digest = hashlib.sha256()
  while size > 0 and (part := file.read(min(size, _AT_ONCE))):
    digest.update(part)
    size -= len(part)
  return digest


def _names(value: Any) -> tuple[str, ...]:
  if not isinstance(value, list) or not 1 <= len(value) <= MAX_IMAGES:
    raise ValueError("its names are no list of images")
  for name in value:
    check_name(name)
  return tuple(value)


def _header(value: Any) -> Header:
  """The header, its fields of the types and in the ranges that they have."""
  if not isinstance(value, dict):
    raise ValueError("it is no object")
  structures = value.get("structures")
  if (
    not isinstance(structures, list)
    or not 1 <= len(structures) <= packing.MAX_SYMBOLS
    or not all(isinstance(s, list) and len(s) == 2 for s in structures)
  ):
    raise ValueError("structures are no pairs")
  header = Header(**{**value, "structures": tuple(map(tuple, structures))})
  for field in ("name", "variant", "model"):
    check_name(getattr(header, field))
  ranges = {
    "step": (0, 2**31),
    "channels": (1, 2**16),
    "downsampling": (2, 2**16),
    "num_images": (1, 2**63),
  }
  numbers = [
    (field, getattr(header, field), *ranges[field]) for field in ranges
  ]
  numbers += [("structures", n, 1, 2**31) for s in header.structures for n in s]
  for field, number, lowest, end in numbers:
    if type(number) is not int or not lowest <= number < end:
      raise ValueError(f"{field} is {number!r:.99}")
  return header
