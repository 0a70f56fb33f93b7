"""Token files: images as codes, in the bits that their rate promises.

A file is, all numbers big-endian,

    magic     8 bytes, 89 "ADQTOK" 0A
    version   16 bits, 2
    size      32 bits, of the header in bytes, at most 65,536
    header    JSON, an object with the fields of `Header`; spaces may follow
    chunks    until they have all of the header's images
    SHA-256   32 bytes, of everything before

and a chunk, of n images of one size, at most 4,096,

    names     32 bits, the size of the images' names in bytes
    h, w      32 bits each, the positions of an image on the finest grid: its
              sides, divided by the model's downsampling
    counts    32 bits for each stream, how many codes it has in the chunk
    sizes     32 bits for each stream of coding "entropy", its size in bytes
    names     JSON, a list of n strings: paths that stay in their folder
    codes     of each stream, of the positions that have one, image by image in
              row-major order: of coding "fixed" by `packing.pack`, of coding
              "entropy" by `packing.encode_symbols`; nothing where it has none

Which positions have a code of a stream, the streams before it tell; see
`adq_jax.Quantizer.sent`.  Where there are h w positions, a stream of stride s
has (h / s) (w / s).

So a chunk's codes take the nominal rate, and beyond that, with a single stream,
at most 21 bytes; with a choice among m codebooks 28 + 7 m bytes and (of eight)
0.001 bits a position.  Where an alphabet is no power of two, a code takes under
1 / k bits more, k being how many of them fit into 64 bits.

Version 1 is read too; see `old_chunks`.
"""

from collections.abc import Iterator
import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import struct
from typing import BinaryIO

import numpy as np

from adq_jax import Stream
from experiments.errors import one_line
from experiments.errors import UserError
from experiments.tokens import file_header
from experiments.tokens import old_chunks
from experiments.tokens import packing
from experiments.tokens.chunk import Chunk
from experiments.tokens.file_header import Header
from experiments.tokens.file_header import VERSION

_MAGIC = b"\x89ADQTOK\n"
_START = struct.Struct(">8sHI")
_CHUNK = struct.Struct(">3I")
_MAX_HEADER = 2**16
_HASH_BYTES = 32
_AT_ONCE = 2**20  # bytes


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
      header: the header of the file.
    """
    self._file = file
    self._header = header
    self._hash = hashlib.sha256()
    self.num_images = 0
    content = header.to_json()
    self._write(_START.pack(_MAGIC, VERSION, len(content)) + content)

  def write(self, chunk: Chunk) -> int:
    """Appends a chunk; returns the bytes of its codes, its names left out.

    Raises:
      ValueError: if a code is out of range.
    """
    names = json.dumps(chunk.names, ensure_ascii=False).encode()
    packed = [
      _pack(codes, stream)
      for codes, stream in zip(chunk.codes, self._header.streams, strict=True)
    ]
    numbers = [len(codes) for codes in chunk.codes]
    numbers += [
      len(content)
      for content, stream in zip(packed, self._header.streams, strict=True)
      if stream.coding == "entropy"
    ]
    head = _CHUNK.pack(len(names), chunk.height, chunk.width)
    head += np.array(numbers, ">u4").tobytes()
    for part in (head, names, *packed):
      self._write(part)
    self.num_images += len(chunk.names)
    return len(head) + sum(map(len, packed))

  def finish(self) -> None:
    """Writes the hash, after the last chunk.

    Where there were fewer images than the header says, it is put right first.
    """
    if self.num_images < self._header.num_images:
      self._correct_header()
    self._file.write(self._hash.digest())

  def _correct_header(self) -> None:
    # Spaces keep its size.
    size = len(self._header.to_json())
    right = dataclasses.replace(self._header, num_images=self.num_images)
    content = right.to_json().ljust(size)
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
    header: the header of the file.
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
    if not 1 <= version <= VERSION:
      raise UserError(
        f"token file {self._path} is of version {version}; this program reads"
        f" versions 1 to {VERSION}"
      )
    content = file.read(size) if size <= _MAX_HEADER else b""
    if len(content) < size:
      raise self.damaged("its header is cut short")
    try:
      return file_header.parse(json.loads(content), version)
    except (ValueError, TypeError, RecursionError) as error:
      raise self.damaged(f"its header is wrong ({one_line(error)})") from error

  def _check_hash(self, file: BinaryIO) -> None:
    size = os.fstat(file.fileno()).st_size - _HASH_BYTES
    file.seek(0)
    digest = _hash_of(file, size)
    if file.read(_HASH_BYTES) != digest.digest():
      raise self.damaged("its SHA-256 is another")

  def _read_chunk(self, file: BinaryIO, end: int) -> Chunk:
    def read(size: int) -> bytes:
      if size > end - file.tell():
        raise ValueError("it is cut short")
      return file.read(size)

    try:
      return old_chunks.read(read, self.header)
    except (ValueError, RecursionError) as error:
      raise self.damaged(one_line(error)) from error


def _hash_of(file: BinaryIO, size: int) -> "hashlib._Hash":
  """Returns the SHA-256 of the next `size` bytes."""
  digest = hashlib.sha256()
  while size > 0 and (part := file.read(min(size, _AT_ONCE))):
    digest.update(part)
    size -= len(part)
  return digest


def _pack(codes: np.ndarray, stream: Stream) -> bytes:
  """Returns the codes of a stream as bytes, b"" if it has none."""
  if stream.coding == "fixed":
    return packing.pack(codes, stream.alphabet)
  return packing.encode_symbols(codes, stream.alphabet) if len(codes) else b""
