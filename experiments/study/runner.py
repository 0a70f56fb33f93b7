"""Runs trials, each in a process of its own, once among all that share DIR."""

import collections
from collections.abc import Mapping
from collections.abc import Sequence
import signal
import subprocess
import sys
import time
from typing import TextIO

import ml_collections

from experiments import errors
from experiments.configs import changes as changes_lib
from experiments.configs import datasets
from experiments.configs import variants
from experiments.model import check
from experiments.processes import compilation
from experiments.processes import platforms
from experiments.processes import signals
from experiments.runs import claims
from experiments.runs import workdir as workdirs
from experiments.study import comparable
from experiments.study.trials import Trial
from experiments.training import timing

_PATIENCE = 5.0  # seconds between two looks at what others train
_LAST_LINES = 20  # of a run's output, in which to look for why it failed
_BLINK = 0.1  # seconds between two looks at a run's output
_OF_CELL = ("name", "variant", "seed")  # they identify a run in DIR


def make_config(
  trial: Trial, changes: Sequence[str]
) -> ml_collections.ConfigDict:
  """Returns the config of a trial.

  Args:
    trial: the run.
    changes: FIELD=VALUE for some fields.

  Raises:
    UserError: if a change cannot be made, makes no sense, or is of what makes
      the trial.
  """
  config = datasets.default_config(trial.dataset, trial.variant).lock()
  of_variant = variants.find(trial.dataset, trial.variant).changes
  config.seed = trial.seed
  assignments = []
  for change in changes:
    field, equals, text = change.partition("=")
    if not equals:
      raise errors.UserError(f"--set is {change!r}; it needs FIELD=VALUE")
    if field in _OF_CELL:
      raise errors.UserError(
        f"--set is {change!r}, but tells {trial} from others; use --dataset,"
        " --variants and --seeds"
      )
    if any(_is_part(field, name) for name in of_variant):
      raise errors.UserError(
        f"--set is {change!r}, but the variant {trial.variant} has a {field} of"
        " its own; leave it as it is"
      )
    assignments.append((field, text))
  try:
    changes_lib.apply_texts(config, assignments)
  except errors.UserError as error:
    raise errors.UserError(f"--set: {error}") from error
  check.check(config)
  return config


def _is_part(field: str, name: str) -> bool:
  """Returns whether two fields are the same, or the first holds the second."""
  field, name = (each.removesuffix(".kind") + "." for each in (field, name))
  return name.startswith(field)


def check_begun(configs: Mapping[Trial, ml_collections.ConfigDict]) -> None:
  """Raises a UserError where DIR has begun a trial with another config.

  Nor is a run extended, whose schedules would then be those of neither length.
  """
  for trial, config in configs.items():
    if not workdirs.is_begun(trial.workdir) or trial.config_problem():
      continue  # the run itself tells what is wrong with its config
    differing = comparable.differences(trial, config)
    if differing:
      raise errors.UserError(
        f"{trial} has been begun with another config, differing in"
        f" {', '.join(differing)}; use the same --set, or another directory"
        " with --workdir=DIR"
      )


def is_done(trial: Trial, config: ml_collections.ConfigDict) -> bool:
  """Returns whether a run has made its last step."""
  summary = trial.summary
  return bool(summary) and summary["steps"] >= config.num_steps


def train(
  configs: Mapping[Trial, ml_collections.ConfigDict], changes: Sequence[str]
) -> None:
  """Trains trials one after another, and waits for those that others train.

  Args:
    configs: the configs of the trials, in the order in which to train them.
    changes: the changes that made these configs of those of their variants.
  """
  trials, ended = list(configs), 0
  while trials:
    with_others = []
    for trial in trials:
      is_free = not claims.is_claimed(trial.workdir)
      if is_free and not is_done(trial, configs[trial]):
        print(f"run {ended + 1} of {len(configs)}: {trial}, {trial.status()}")
        try:
          is_free = _train(trial, changes)
        except OSError as error:
          print(f"{trial} cannot be run ({errors.one_line(error)})")
      if is_free:
        ended += 1
      else:
        with_others.append(trial)
    if len(with_others) == len(trials):
      time.sleep(_PATIENCE)
    trials = with_others


def _train(trial: Trial, changes: Sequence[str]) -> bool:
  """Trains a trial; returns False if another process holds it.

  If the run fails, the reason is written to a file, and other trials go on.
  """
  command = [sys.executable, "-m", "experiments.main"]
  command += [
    f"--config=experiments/configs/{trial.dataset}.py:{trial.variant}"
  ]
  command += [f"--workdir={trial.workdir}", f"--config.seed={trial.seed}"]
  command += [f"--config.{change}" for change in changes]
  command += compilation.arguments()
  trial.output.parent.mkdir(parents=True, exist_ok=True)
  trial.failure.unlink(missing_ok=True)
  # To a file, and not to this process: it goes on if this one is killed.
  with (
    open(trial.output, "a") as output,
    open(trial.output, encoding="utf-8", errors="replace") as written,
    subprocess.Popen(
      command, stdout=output, stderr=subprocess.STDOUT
    ) as process,
    signals.stop_request(on_signal=process.terminate) as stop,
  ):
    lines = _follow(written, process)
  if stop.name is not None:
    raise errors.StoppedError(f"by {stop.name}; go on with the same command")
  code = process.returncode
  if code == errors.InUseError.exit_code:
    return False
  # One that was asked to stop, and not this process, has not failed.
  if code not in (0, errors.StoppedError.exit_code):
    trial.failure.write_text(f"{_reason(lines, code)} (exit code {code})\n")
  return True


def _follow(output: TextIO, process: subprocess.Popen) -> Sequence[str]:
  """Shows what a process appends to a file; returns its last lines."""
  output.seek(0, 2)
  lines = collections.deque(maxlen=_LAST_LINES)
  has_ended = False
  while not has_ended:
    has_ended = process.poll() is not None  # then all of it is there
    for line in output:
      print(f"  {line.rstrip()}", flush=True)
      lines.append(line.strip())
    if not has_ended:
      time.sleep(_BLINK)
  return lines


def _reason(lines: Sequence[str], code: int) -> str:
  """Returns why a run failed, from the last lines that it printed."""
  if code < 0:
    return f"killed by {signal.Signals(-code).name}"
  printed = [line for line in lines if line] or ["it said nothing"]
  errors_printed = [line for line in printed if line.startswith("error: ")]
  return (errors_printed or printed)[-1].removeprefix("error: ")


def describe_plan(configs: Mapping[Trial, ml_collections.ConfigDict]) -> str:
  """Returns what `train` would do, and for how long by steps measured here."""
  platforms.check_platform()
  lines, seconds_per_step, total, missing = [], {}, 0.0, 0
  for trial, config in configs.items():
    if is_done(trial, config):
      lines.append(f"{trial}: finished")
      continue
    # Steps of two configs take about the same time if these fields agree.
    kind = (config.quantizer.kind, config.model.network)
    if kind not in seconds_per_step:
      seconds_per_step[kind] = timing.seconds_per_step(config)
    steps = config.num_steps - trial.steps
    seconds = steps * seconds_per_step[kind]
    total += seconds
    missing += 1
    lines.append(
      f"{trial}: {trial.status()}; {steps} steps of"
      f" {seconds_per_step[kind]:.2f} s, {_duration(seconds)}"
    )
  lines.append(f"{missing} of {len(configs)} runs, {_duration(total)} in all")
  return "\n".join(lines)


def _duration(seconds: float) -> str:
  minutes = round(seconds / 60)
  return f"{minutes // 60} h {minutes % 60} min"
