"""What a run tells: metrics.jsonl, TensorBoard events and a progress bar."""

import collections
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import dataclasses
import json
import pathlib
import sys
import time
from typing import Any

import numpy as np
import tensorboardX
import tqdm

from experiments import files
from experiments import hosts
from experiments import workdir as workdirs
from experiments.errors import one_line


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
    log = read_log(workdir)
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


@dataclasses.dataclass
class Log:
  """What a run's metrics.jsonl holds.

  Attributes:
    lines: those of the run, without its identity.
    raw: the bytes of each, without the line break.
    problems: what is left out, and why; a text for each reason.
  """

  lines: list[dict[str, Any]]
  raw: list[bytes]
  problems: list[str]


def read_log(workdir: pathlib.Path) -> Log:
  """Returns the lines of a run's metrics.jsonl, and what is wrong with others.

  A last line that was cut short, by a kill, is left out without a word.
  """
  path = workdir / workdirs.METRICS
  log, left_out = Log([], [], []), collections.defaultdict(list)
  try:
    content = path.read_bytes()
  except FileNotFoundError:
    return log
  except OSError as error:
    log.problems.append(f"{path} cannot be read ({one_line(error)})")
    return log
  own = workdirs.identity(workdir)
  *whole, last = content.split(b"\n")
  for number, raw in enumerate([*whole, last], 1):
    if not raw.strip():
      continue
    try:
      line = _parse_line(raw)
    except ValueError as error:
      if number <= len(whole):
        left_out[f"damaged ({one_line(error)})"].append(number)
      continue
    found = line.pop(workdirs.RUN_ID, None)
    if not workdirs.is_own(found, own):
      left_out[f"of another run, {found}"].append(number)
      continue
    log.lines.append(line)
    log.raw.append(raw)
  for reason, numbers in left_out.items():
    log.problems.append(f"{path}, {_spans(numbers)}: {reason}, left out")
  return log


def _parse_line(raw: bytes) -> dict[str, Any]:
  """Returns a line of the log; raises a ValueError if it is not one."""
  try:
    line = json.loads(raw.decode())
  except UnicodeDecodeError as error:
    raise ValueError("not UTF-8") from error
  except (RecursionError, ValueError) as error:
    raise ValueError("not JSON") from error
  if not isinstance(line, dict):
    raise ValueError("not a JSON object")
  values = line.get("values")
  is_right = (
    type(line.get("step")) is int
    and isinstance(line.get("split"), str)
    and isinstance(values, dict)
    and all(map(_is_value, values.values()))
  )
  if not is_right:
    raise ValueError("not a step, a split and values")
  return line


def _is_value(value: Any) -> bool:
  """Whether `_as_json` may have made it."""
  entries = value if isinstance(value, list) else [value]
  return all(
    entry is None or isinstance(entry, int | float) for entry in entries
  )


def _spans(numbers: Sequence[int]) -> str:
  """Ascending line numbers in words: "line 2", "lines 1, 3 to 5"."""
  spans = []
  for number in numbers:
    if spans and spans[-1][1] == number - 1:
      spans[-1][1] = number
    else:
      spans.append([number, number])
  texts = [f"{a} to {b}" if b > a else str(a) for a, b in spans]
  return f"line{'s' if len(numbers) > 1 else ''} {', '.join(texts)}"


def read_metrics(workdir: pathlib.Path) -> list[dict[str, Any]]:
  """Returns the lines of a run's metrics.jsonl that are whole and its own."""
  return read_log(workdir).lines


def read_series(
  workdir: pathlib.Path, split: str, name: str
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the steps `[n]` and values `[n, ...]` of a logged quantity.

  Values of another shape than the last one are left out.
  """
  lines = [
    (line["step"], line["values"][name])
    for line in read_metrics(workdir)
    if line["split"] == split and name in line["values"]
  ]
  lines = [
    line for line in lines if np.shape(line[1]) == np.shape(lines[-1][1])
  ]
  steps, values = zip(*lines, strict=True) if lines else ((), ())
  return np.array(steps, int), np.array(values, float)


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
