"""What a run tells: metrics.jsonl, TensorBoard events and a progress bar.

`metric_log` reads metrics.jsonl again.
"""

from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import json
import pathlib
import sys
import time
from typing import Any

import numpy as np
import tensorboardX
import tqdm

from experiments import files
from experiments.processes import hosts
from experiments.runs import metric_log
from experiments.runs import workdir as workdirs


class MetricLog:
  """Appends to a run's metrics.jsonl and its TensorBoard events.

  A line is `{"step": 50, "split": "train", "values": {"loss": 0.1, ...},
  "run_id": "..."}`, the last with the identity of the run.
  """

  def __init__(self, workdir: pathlib.Path, first_step: int):
    """Opens the log of a run that has done `first_step` steps.

    What an interrupted run had written of later steps is cut off.  What is
    damaged, or of another run, is left out; a copy of the file is then kept.
    Of several processes, the main one alone writes.
    """
    self._writes = hosts.is_main()
    if not self._writes:
      return
    path = workdir / workdirs.METRICS
    log = metric_log.read_log(workdir)
    if log.problems:
      place = workdirs.copy_aside(workdir, path)
      print(f"{'; '.join(log.problems)}: a copy is {place}")
    kept = [
      raw
      for raw, line in zip(log.raw, log.lines, strict=True)
      if line["step"] <= first_step
    ]
    with files.replacing(path) as temporary:
      temporary.write_bytes(b"".join(raw + b"\n" for raw in kept))
    self._identity = workdirs.known_identity(workdir)
    self._file = open(path, "a")
    self._events = tensorboardX.SummaryWriter(
      str(workdir / workdirs.TENSORBOARD), purge_step=first_step + 1
    )

  def write(self, step: int, split: str, values: Mapping[str, Any]) -> None:
    """Adds a line: scalars and vectors by name."""
    if not self._writes:
      return
    values = {name: _as_json(value) for name, value in values.items()}
    line = {"step": step, "split": split, "values": values}
    line |= self._identity
    self._file.write(json.dumps(line) + "\n")
    self._file.flush()
    for name, value in values.items():
      for i, scalar in enumerate(np.atleast_1d(value)):
        suffix = f"/{i}" if isinstance(value, list) else ""
        if scalar is not None:
          self._events.add_scalar(f"{split}/{name}{suffix}", scalar, step)

  def close(self) -> None:
    if not self._writes:
      return
    self._file.close()
    self._events.close()


def _as_json(value: Any) -> Any:
  """A scalar or vector for JSON, which has null for what is not finite."""
  value = np.asarray(value)
  return np.where(np.isfinite(value), value.astype(object), None).tolist()


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
    """Counts what is done inside as waiting for data."""
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
    """Leaves out of the speed what is done inside."""
    started = time.perf_counter()
    yield
    self._time += time.perf_counter() - started

  def say(self, text: str) -> None:
    """Prints a line above the bar."""
    self._bar.write(text)
    sys.stdout.flush()

  def close(self) -> None:
    self._bar.close()
