"""Shows the progress of a run that trains, as a bar or as lines."""

from collections.abc import Iterator
import contextlib
import sys
import time

import tqdm

from experiments.processes import hosts


class Progress:
  """A progress bar on a terminal, plain lines elsewhere."""

  def __init__(self, num_steps: int, first_step: int, batch_size: int):
    self._num_steps = num_steps
    self._batch_size = batch_size
    self._is_terminal = sys.stderr.isatty() and hosts.is_main()
    self._bar = tqdm.tqdm(
      total=num_steps,
      initial=first_step,
      unit="step",
      disable=not self._is_terminal,
      dynamic_ncols=True,
    )
    self._step, self._time = first_step, time.perf_counter()
    self._waited = 0.0

  def advance(self, num_steps: int) -> None:
    self._bar.update(num_steps)

  @contextlib.contextmanager
  def waiting(self) -> Iterator[None]:
    """Counts the time inside as waiting for data."""
    started = time.perf_counter()
    yield
    self._waited += time.perf_counter() - started

  def measure(self, step: int) -> dict[str, float]:
    """Returns the speed since the last call.

    It is `steps_per_second`, and `data_wait`, the share of the time that was
    spent waiting for data.
    """
    now = time.perf_counter()
    speed = (step - self._step) / (now - self._time)
    data_wait = self._waited / (now - self._time)
    self._step, self._time, self._waited = step, now, 0.0
    return {"steps_per_second": speed, "data_wait": data_wait}

  def report(self, step: int, loss: float, speed: float) -> None:
    """Shows the loss, and the speed in steps per second."""
    images = speed * self._batch_size
    if self._is_terminal:
      self._bar.set_postfix_str(f"{images:.0f} images/s, loss {loss:.5f}")
      return
    left = tqdm.tqdm.format_interval((self._num_steps - step) / speed)
    self.say(
      f"step {step}/{self._num_steps}  loss {loss:.5f}"
      f"  {speed:.2f} steps/s  {images:.0f} images/s  {left} left"
    )

  @contextlib.contextmanager
  def pause(self) -> Iterator[None]:
    """Leaves the time inside out of the speed."""
    started = time.perf_counter()
    yield
    self._time += time.perf_counter() - started

  def say(self, text: str) -> None:
    """Prints a line above the bar."""
    self._bar.write(text)
    sys.stdout.flush()

  def close(self) -> None:
    self._bar.close()
