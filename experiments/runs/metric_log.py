"""Reads the log of a run, metrics.jsonl, which `metric_writer` writes.

It needs no JAX: tables and figures are made where there is none.
"""

import collections
from collections.abc import Sequence
import dataclasses
import json
import pathlib
from typing import Any

import numpy as np

from experiments.errors import one_line
from experiments.runs import run_identity
from experiments.runs import workdir as workdirs


@dataclasses.dataclass
class Log:
  """The content of a run's metrics.jsonl.

  Attributes:
    lines: the lines of the run, without its identity.
    raw: the bytes of each of these lines, without the line break.
    problems: a text for each reason why lines are left out.
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
  run_id = run_identity.read(workdir)
  *complete, last = content.split(b"\n")
  for number, raw in enumerate([*complete, last], 1):
    if not raw.strip():
      continue
    try:
      line = _parse_line(raw)
    except ValueError as error:
      if number <= len(complete):
        left_out[f"damaged ({one_line(error)})"].append(number)
      continue
    found = line.pop(workdirs.RUN_ID, None)
    if not run_identity.is_own(found, run_id):
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


def _is_value(value: Any, most_axes: int = 2) -> bool:
  """Returns whether `metric_writer.MetricLog` may have written a value."""
  if isinstance(value, list):  # two axes: of groups with stages
    return most_axes > 0 and all(_is_value(x, most_axes - 1) for x in value)
  return value is None or isinstance(value, int | float)


def _spans(numbers: Sequence[int]) -> str:
  """Returns ascending line numbers in words, as "lines 1, 3 to 5"."""
  spans = []
  for number in numbers:
    if spans and spans[-1][1] == number - 1:
      spans[-1][1] = number
    else:
      spans.append([number, number])
  texts = [f"{a} to {b}" if b > a else str(a) for a, b in spans]
  return f"line{'s' if len(numbers) > 1 else ''} {', '.join(texts)}"


def read_metrics(workdir: pathlib.Path) -> list[dict[str, Any]]:
  """Returns the intact lines of a run's metrics.jsonl."""
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
