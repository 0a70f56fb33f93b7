"""Token files: images as codes, in the bits that their coded rate promises.

A file is, all numbers big-endian,

    magic     8 bytes, 89 "ADQTOK" 0A
    version   16 bits, 3
    size      32 bits, of the header in bytes, at most 65,536
    header    JSON, an object with the fields of `Header`; spaces may follow
    chunks    until they have all of the header's images; see `coded_chunks`
    SHA-256   32 bytes, of everything before

Codes are coded by integers alone, so any machine decodes them.  The tables of
the model are not in the file: the header has their hash, and the run has them.

Versions 1 and 2 are read too; see `old_chunks`.
"""

from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import struct
from typing import BinaryIO

import numpy as np

from experiments.errors import one_line
from experiments.errors import UserError
from experiments.runs.frequencies import Frequencies
from experiments.tokens import coded_chunks
from experiments.tokens import file_header
from experiments.tokens import old_chunks
from experiments.tokens.chunk import Chunk
from experiments.tokens.file_header import Header
from experiments.tokens.file_header import VERSION

_MAGIC = b"\x89ADQTOK\n"
_START = struct.Struct(">8sHI")
_MAX_HEADER = 2**16
_HASH_BYTES = 32
_AT_ONCE = 2**20  # bytes


class Writer:
  """Writes a token file, chunk by chunk.

  Attributes:
    tables: of the model, one for each symbol; None where it has none.
    num_images: written so far.
    name_bytes: that their names take, so far.
  """

  def __init__(
    self,
    file: BinaryIO,
    header: Header,
    frequencies: Frequencies | None = None,
  ):
    """Writes the header.

    Args:
      file: open for writing, and for reading too where fewer images may come
        than the header says.
      header: the header of the file.
      frequencies: those that the header names, None where it names none.
    """
    self._file = file
    self._header = header
    self.tables = _tables_of(header, frequencies)
    self._hash = hashlib.sha256()
    self.num_images = 0
    self.name_bytes = 0
    content = header.to_json()
    self._write(_START.pack(_MAGIC, VERSION, len(content)) + content)

  def write(self, chunk: Chunk) -> int:
    """Appends a chunk; returns its bytes, its names left out.

    Raises:
      ValueError: if a code is out of range.
    """
    content, of_names = coded_chunks.to_bytes(
      chunk, self._header.streams, self.tables
    )
    self._write(content)
    self.num_images += len(chunk.names)
    self.name_bytes += of_names
    return len(content) - of_names

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
    return self.chunks()

  def chunks(self, frequencies: Frequencies | None = None) -> Iterator[Chunk]:
    """Returns an iterator of the chunks.

    Args:
      frequencies: of the model, if the header names `tables`.

    Raises:
      UserError: if the file takes other frequencies than these; while
        iterating, if it is damaged.
    """
    try:
      tables = _tables_of(self.header, frequencies)
    except ValueError as error:
      raise UserError(
        f"token file {self._path} {one_line(error)}; take those of the run that"
        f" encoded it, of step {self.header.step}"
      ) from error
    return self._chunks(tables)

  def _chunks(self, tables: Sequence[np.ndarray] | None) -> Iterator[Chunk]:
    seen = 0
    with self._open() as file:
      end = os.fstat(file.fileno()).st_size - _HASH_BYTES
      file.seek(self._chunks_at)
      while seen < self.header.num_images:
        chunk = self._read_chunk(file, end, tables)
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

  def _read_chunk(
    self, file: BinaryIO, end: int, tables: Sequence[np.ndarray] | None
  ) -> Chunk:
    def read(size: int) -> bytes:
      if size > end - file.tell():
        raise ValueError("it is cut short")
      return file.read(size)

    try:
      if self.header.version < VERSION:
        return old_chunks.read(read, self.header)
      return coded_chunks.read(read, self.header, tables)
    except (ValueError, RecursionError) as error:
      raise self.damaged(one_line(error)) from error


def _tables_of(
  header: Header, frequencies: Frequencies | None
) -> tuple[np.ndarray, ...] | None:
  """Returns the model's tables by which a file is coded, None of none.

  Raises:
    ValueError: if the frequencies are not those that the header names.
  """
  named = header.tables
  if named is None:
    return None
  if frequencies is None:
    raise ValueError("is coded by the frequencies of its model, which lack")
  if frequencies.sha256 != named.sha256:
    raise ValueError("is coded by other frequencies than these")
  return frequencies.mixed(named.row, named.weight)


def _hash_of(file: BinaryIO, size: int) -> "hashlib._Hash":
  """Returns the SHA-256 of the next `size` bytes."""
  digest = hashlib.sha256()
  while size > 0 and (part := file.read(min(size, _AT_ONCE))):
    digest.update(part)
    size -= len(part)
  return digest
