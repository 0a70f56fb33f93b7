"""Limits on what is read of files from unknown sources.

A few bytes can claim to be more than a machine holds.
"""

from typing import Any
from typing import BinaryIO

MAX_PIXELS = 2**24  # of an image, and of a token file's chunk: 4096 x 4096
MAX_MEMBER = 2**26  # bytes, of a file in an archive, unpacked
MAX_ARCHIVE = 2**29  # bytes, of a .tar.gz, unpacked


class LimitedFile:
  """A file of bytes that cannot be read beyond a limit."""

  def __init__(self, file: BinaryIO, limit: int):
    """Wraps an open file; `limit` is in bytes from its start."""
    self._file = file
    self._limit = limit

  def read(self, size: int = -1) -> bytes:
    """Reads as a file does; raises a ValueError beyond the limit."""
    room = self._limit + 1 - self._file.tell()
    content = self._file.read(room if size < 0 else min(size, room))
    self._check(self._file.tell())
    return content

  def seek(self, position: int) -> int:
    """Moves to a position from the start; raises as `read` does."""
    self._check(position)
    return self._file.seek(position)

  def __getattr__(self, name: str) -> Any:
    return getattr(self._file, name)

  def _check(self, position: int) -> None:
    if position > self._limit:
      raise ValueError(f"it unpacks to more than {self._limit} bytes")
