"""Being asked to stop: SIGTERM, as schedulers send it, and Ctrl-C."""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import os
import signal
import sys
import threading


class StopRequest:
  """Whether the process was asked to stop.

  Attributes:
    name: of the signal that asked for it; None as long as none did.
    at_once: whether that is to interrupt what is being done, as a second
      Ctrl-C always does: a KeyboardInterrupt is raised.
  """

  name: str | None = None
  at_once: bool = False


@contextlib.contextmanager
def stop_request(
  promise: str = "",
  on_term: Callable[[], None] = lambda: None,
) -> Iterator[StopRequest]:
  """Lets the code inside finish what it does when it is asked to stop.

  Outside the main thread, where Python handles no signals, nothing is ever
  asked for.

  Args:
    promise: what to say when it is, after the signal's name.
    on_term: is called at SIGTERM, which only this process gets; Ctrl-C reaches
      the processes that it has started too.
  """
  request = StopRequest()

  def ask(number: int, frame: object) -> None:
    del frame
    is_first = request.name is None
    request.name = signal.Signals(number).name
    if number == signal.SIGTERM:
      on_term()
    if request.at_once or (number == signal.SIGINT and not is_first):
      raise KeyboardInterrupt
    if is_first and promise:
      # Not print, which may be what is interrupted.
      os.write(sys.__stderr__.fileno(), f"{request.name}: {promise}\n".encode())

  if threading.current_thread() is not threading.main_thread():
    yield request
    return
  handled = (signal.SIGTERM, signal.SIGINT)
  before = {number: signal.signal(number, ask) for number in handled}
  try:
    yield request
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)
