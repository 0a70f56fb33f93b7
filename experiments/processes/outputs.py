"""Standard output and standard error that never raise.

A reader may go away (`| head`, a closed terminal), a disk may be full, and a
stream may be closed from the start (`>&-`).  None of this is worth the work
that a command has done, so text that cannot be written is dropped.
"""

import contextlib
import errno
import io
import os
import select
import sys

_STDERR = 2
_GONE = (errno.EPIPE, errno.EIO)  # a pipe's reader, or a terminal


class _Tolerant(io.FileIO):
  """A stream of the process that drops what cannot be written.

  Attributes:
    is_unread: whether a write has shown that the reader is gone.
    is_hung_up: whether a write has shown that a terminal is gone.
  """

  is_unread = False
  is_hung_up = False

  def write(self, data) -> int:
    try:
      while (count := super().write(data)) is None:  # it does not block
        select.select([], [self], [])
      return count
    except OSError as error:
      self.is_unread |= error.errno in _GONE
      self.is_hung_up |= error.errno == errno.EIO
      return memoryview(data).nbytes


def make_safe() -> None:
  """Replaces sys.stdout and sys.stderr by streams that never raise.

  A stream that is no file of the process, such as a test's, is kept.
  """
  _fill_closed()
  for descriptor, name in ((1, "stdout"), (_STDERR, "stderr")):
    original = getattr(sys, f"__{name}__")
    if getattr(sys, name) is original:
      stream = tolerant(descriptor, original)
      setattr(sys, name, stream)
      setattr(sys, f"__{name}__", stream)


def tolerant(
  descriptor: int, like: io.TextIOWrapper | None = None
) -> io.TextIOWrapper:
  """Returns a text stream on a file descriptor that drops what it cannot write.

  Args:
    descriptor: is left open when the stream is closed.
    like: a stream whose encoding and buffering it takes over.
  """
  options = {"encoding": "utf-8", "errors": "backslashreplace"}
  if like is not None:
    with contextlib.suppress(OSError):
      like.flush()
    options = {
      "encoding": like.encoding,
      "errors": like.errors,
      "line_buffering": like.line_buffering,
      "write_through": like.write_through,
    }
  # A file's name may have bytes that the encoding lacks.
  if options["errors"] == "strict":
    options["errors"] = "backslashreplace"
  raw = _Tolerant(descriptor, "w", closefd=False)
  return io.TextIOWrapper(io.BufferedWriter(raw), **options)


def is_unread() -> bool:
  """Returns whether the reader of standard output, or the terminal, is gone."""
  output, error = (
    getattr(getattr(stream, "buffer", None), "raw", None)
    for stream in (sys.stdout, sys.stderr)
  )
  return getattr(output, "is_unread", False) or getattr(
    error, "is_hung_up", False
  )


def write_error(text: str) -> None:
  """Writes to standard error, also from within a signal's handler.

  A handler cannot use `print`, which may be the call that was interrupted.
  """
  with contextlib.suppress(OSError):
    os.write(_STDERR, text.encode(errors="backslashreplace"))


def _fill_closed() -> None:
  """Opens closed streams; the next opened file would take their numbers."""
  for descriptor in (0, 1, _STDERR):
    try:
      os.fstat(descriptor)
    except OSError:
      # The lowest one that is free, which is this one.
      os.open(os.devnull, os.O_RDWR)
