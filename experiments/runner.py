"""Trains cells, each in a process of its own, once among all that share DIR."""

import ast
from collections.abc import Mapping
from collections.abc import Sequence
import subprocess
import sys
import time

import ml_collections

from experiments import cells as cells_lib
from experiments import errors
from experiments import report
from experiments import settings
from experiments import signals
from experiments import timing
from experiments import workdir as workdirs
from experiments.cells import Cell

_PATIENCE = 5.0  # seconds between two looks at what others train
_LAST_LINES = 20  # of a run's output, in which to look for why it failed


def make_config(
  cell: Cell, changes: Sequence[str]
) -> ml_collections.ConfigDict:
  """Returns the config of a cell.

  Args:
    cell: the run.
    changes: FIELD=VALUE for some fields.

  Raises:
    UserError: if a change cannot be made, or makes no sense.
  """
  config = cells_lib.default_config(cell.dataset, cell.variant).lock()
  fields = {"seed": cell.seed}
  for change in changes:
    field, equals, value = change.partition("=")
    if not equals:
      raise errors.UserError(f"--set is {change!r}; it needs FIELD=VALUE")
    try:
      fields[field] = ast.literal_eval(value)
    except (SyntaxError, ValueError):
      fields[field] = value
  try:
    config.update_from_flattened_dict(fields)
  except (AttributeError, KeyError, TypeError) as error:
    raise errors.UserError(f"--set: {errors.one_line(error)}") from error
  settings.check(config)
  return config


def is_done(cell: Cell, config: ml_collections.ConfigDict) -> bool:
  """Returns whether a run has made its last step."""
  summary = report.read_summary(cell.workdir)
  return bool(summary) and summary["steps"] >= config.num_steps


def train(
  configs: Mapping[Cell, ml_collections.ConfigDict], changes: Sequence[str]
) -> None:
  """Trains cells one after another; what others train, it waits for.

  Args:
    configs: of the cells, in the order in which to train them.
    changes: what makes the configs of their variants.
  """
  cells, ended = list(configs), 0
  while cells:
    with_others = []
    for cell in cells:
      is_free = not workdirs.is_claimed(cell.workdir)
      if is_free and not is_done(cell, configs[cell]):
        print(f"run {ended + 1} of {len(configs)}: {cell}, {cell.status()}")
        is_free = _train(cell, changes)
      if is_free:
        ended += 1
      else:
        with_others.append(cell)
    if len(with_others) == len(cells):
      time.sleep(_PATIENCE)
    cells = with_others


def _train(cell: Cell, changes: Sequence[str]) -> bool:
  """Trains a cell; returns False if another process holds it.

  Why it fails, if it does, is written to a file; the others go on.
  """
  command = [sys.executable, "-m", "experiments.main"]
  command += [f"--config=experiments/configs/{cell.dataset}.py:{cell.variant}"]
  command += [f"--workdir={cell.workdir}", f"--config.seed={cell.seed}"]
  command += [f"--config.{change}" for change in changes]
  cell.output.parent.mkdir(parents=True, exist_ok=True)
  lines = []
  with (
    open(cell.output, "a") as output,
    subprocess.Popen(
      command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process,
    signals.stop_request(on_term=process.terminate) as stop,
  ):
    for line in process.stdout:
      output.write(line)
      output.flush()
      print(f"  {line.rstrip()}", flush=True)
      lines = [*lines, line.strip()][-_LAST_LINES:]
  if stop.name is not None:
    raise errors.StoppedError(f"by {stop.name}; go on with the same command")
  if process.returncode == errors.InUseError.exit_code:
    return False
  if process.returncode == 0:
    cell.failure.unlink(missing_ok=True)
    return True
  said = [line for line in lines if line] or ["it said nothing"]
  told = [line for line in said if line.startswith("error: ")]
  reason = (told or said)[-1].removeprefix("error: ")
  cell.failure.write_text(f"{reason} (exit code {process.returncode})\n")
  return True


def describe_plan(configs: Mapping[Cell, ml_collections.ConfigDict]) -> str:
  """Returns what `train` would do, and for how long by steps measured here."""
  lines, seconds_per_step, total, missing = [], {}, 0.0, 0
  for cell, config in configs.items():
    if is_done(cell, config):
      lines.append(f"{cell}: finished")
      continue
    # What makes most of the difference between the times of steps.
    kind = (config.quantizer.kind, config.model.network)
    if kind not in seconds_per_step:
      seconds_per_step[kind] = timing.seconds_per_step(config)
    metrics = cell.metrics
    steps = config.num_steps - (metrics[-1]["step"] if metrics else 0)
    seconds = steps * seconds_per_step[kind]
    total += seconds
    missing += 1
    lines.append(
      f"{cell}: {cell.status()}; {steps} steps of"
      f" {seconds_per_step[kind]:.2f} s, {_duration(seconds)}"
    )
  lines.append(f"{missing} of {len(configs)} runs, {_duration(total)} in all")
  return "\n".join(lines)


def _duration(seconds: float) -> str:
  minutes = round(seconds / 60)
  return f"{minutes // 60} h {minutes % 60} min"
