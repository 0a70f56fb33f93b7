"""Signals that ask a process to stop: SIGTERM, SIGHUP and Ctrl-C."""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import os
import signal
import threading

from experiments.processes import outputs

_UNREAD = "the end of what reads its output"


class Interrupt(KeyboardInterrupt):
  """A signal that asks the process to end.

  Attributes:
    name: the name of the signal.
  """

  def __init__(self, number: int):
    super().__init__()
    self.name = signal.Signals(number).name


class StopRequest:
  """A request to stop, which may come at any time.

  Attributes:
    signal: the name of the signal that came; None as long as none did.
    at_once: whether a signal raises an Interrupt, as a second Ctrl-C always
      does.
  """

  signal: str | None = None

  def __init__(self, or_unread: bool = False, at_once: bool = False):
    self.at_once = at_once
    self._or_unread = or_unread

  @property
  def name(self) -> str | None:
    """The name of what asked to stop; None as long as nothing did."""
    if self.signal is None and self._or_unread and outputs.is_unread():
      return _UNREAD
    return self.signal

  @contextlib.contextmanager
  def put_off(self) -> Iterator[None]:
    """Has signals wait for the code inside, which must look at `name`.

    They still wait after an error, for the code that then cleans up.
    """
    self.at_once = False
    yield
    self.at_once = True


@contextlib.contextmanager
def stop_request(
  promise: str = "",
  on_signal: Callable[[], None] = lambda: None,
  *,
  or_unread: bool = False,
  at_once: bool = False,
) -> Iterator[StopRequest]:
  """Lets the code inside finish its work when a signal asks it to stop.

  Python handles signals in the main thread alone, so in other threads there is
  never a request.

  Args:
    promise: the text to print after the name of the first signal.
    on_signal: is called at each signal, which may be for this process alone.
    or_unread: whether to stop also when nobody reads the output any more.
    at_once: the first value of the request's `at_once`.
  """
  request = StopRequest(or_unread, at_once)
  has_raised = False

  def ask(number: int, frame: object) -> None:
    nonlocal has_raised
    del frame
    is_first = request.signal is None
    is_ctrl_c = number == signal.SIGINT
    request.signal = signal.Signals(number).name
    on_signal()
    # A closed terminal or a scheduler may send several signals in a row; only
    # the first may interrupt, lest the others interrupt the cleaning up.
    if (request.at_once and not has_raised) or (is_ctrl_c and not is_first):
      has_raised = True
      raise Interrupt(number)
    if is_first and promise:
      outputs.write_error(f"{request.signal}: {promise}\n")

  with _handled(ask):
    yield request


@contextlib.contextmanager
def interrupting() -> Iterator[None]:
  """Has signals raise an Interrupt, so that the code inside cleans up.

  The first signal raises one, and every Ctrl-C.
  """
  has_raised = False

  def interrupt(number: int, frame: object) -> None:
    nonlocal has_raised
    del frame
    if not has_raised or number == signal.SIGINT:
      has_raised = True
      raise Interrupt(number)

  with _handled(interrupt):
    yield


@contextlib.contextmanager
def postponed() -> Iterator[None]:
  """Delivers a signal only after the code inside, which cleans up."""
  arrived = []
  try:
    with _handled(lambda number, frame: arrived.append(number)):
      yield
  finally:
    if arrived:
      os.kill(os.getpid(), arrived[0])


def ignore() -> None:
  """Ignores all these signals from here on, because the process is ending."""
  for number in _asking():
    signal.signal(number, signal.SIG_IGN)


def _asking() -> list[int]:
  """Returns the signals that ask to stop; no SIGHUP where nohup ignores it."""
  numbers = [signal.SIGTERM, signal.SIGINT]
  if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
    numbers.append(signal.SIGHUP)
  return numbers


@contextlib.contextmanager
def _handled(handler: Callable[[int, object], None]) -> Iterator[None]:
  """Handles the signals in the code inside, and as before after it."""
  if threading.current_thread() is not threading.main_thread():
    yield
    return
  before = {number: signal.signal(number, handler) for number in _asking()}
  try:
    yield
  finally:
    for number, previous in before.items():
      signal.signal(number, previous)
