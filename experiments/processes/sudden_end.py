"""A line about the end of a process that cannot say it itself."""

import atexit
import contextlib
import subprocess

_LINE = (
  "error: this process, one of several, has come to a sudden end: killed, or"
  " because another was lost or never started; start all of them again, and"
  " they go on from the latest checkpoint"
)
_watchers: list[subprocess.Popen] = []


def announce() -> None:
  """Starts a watcher that prints a line if this process is killed.

  The watcher reads from a pipe that only this process holds.  When the pipe is
  closed before `withdraw` has written to it, the process has died.
  """
  watcher = subprocess.Popen(
    ["sh", "-c", 'read -r _ || echo "$0" >&2', _LINE],
    stdin=subprocess.PIPE,
    start_new_session=True,  # Ctrl-C is not for it
  )
  _watchers.append(watcher)
  atexit.register(withdraw)


def withdraw() -> None:
  """Ends the watcher without a line: this process says itself why it ends."""
  for watcher in _watchers:
    with contextlib.suppress(OSError):
      watcher.communicate(b"\n")
  _watchers.clear()
