"""Being asked to stop: SIGTERM, as schedulers send it, and Ctrl-C."""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import signal
import threading


class StopRequest:
  """Whether the process was asked to stop.

  Attributes:
    name: of the signal that asked for it; None as long as none did.
  """

  name: str | None = None


@contextlib.contextmanager
def stop_request(
  on_term: Callable[[], None] = lambda: None,
) -> Iterator[StopRequest]:
  """Lets the code inside finish what it does when it is asked to stop.

  A second Ctrl-C interrupts it at once.  Outside the main thread, where Python
  handles no signals, nothing is ever asked for.

  Args:
    on_term: is called at SIGTERM, which only this process gets; Ctrl-C reaches
      the processes that it has started too.
  """
  request = StopRequest()

  def ask(number: int, frame: object) -> None:
    del frame
    request.name = signal.Signals(number).name
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if number == signal.SIGTERM:
      on_term()

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
