"""Evaluates a run's latest checkpoint, for evaluation.json."""

from collections.abc import Mapping
import json
import pathlib
from typing import Any

import jax
import ml_collections

from experiments import data
from experiments import files
from experiments.errors import UserError
from experiments.evaluation import wording
from experiments.evaluation.evaluator import Evaluator
from experiments.evaluation.judgement import judge
from experiments.model import build
from experiments.model import check
from experiments.model.state import to_devices
from experiments.processes import hosts
from experiments.processes.devices import AXIS
from experiments.processes.devices import choose_devices
from experiments.runs import config_changes
from experiments.runs import run_identity
from experiments.runs import workdir as workdirs
from experiments.runs.checkpoints import read_state


def evaluate_run(
  config: ml_collections.ConfigDict, workdir: str | pathlib.Path
) -> dict[str, Any]:
  """Evaluates a run's latest checkpoint, and writes evaluation.json.

  Args:
    config: the config of the run.
    workdir: the directory of the run.

  Returns:
    The content of evaluation.json: the figures that summary.json has.

  Raises:
    UserError: for bad input.
  """
  workdir = pathlib.Path(workdir)
  check.check(config)
  config_changes.check_same_run(workdir, config)
  step = None  # the latest
  if jax.process_count() > 1:
    # All of them take the checkpoint that the main process sees.
    step = hosts.from_main(lambda: int(read_state(config, workdir).step))
  state = read_state(config, workdir, step)
  step = int(state.step)
  model = build.create_model(config, AXIS)
  devices = choose_devices(config.batch_size, model.sharded_size)
  evaluator = Evaluator(config, model, devices)
  variables = to_devices(state, devices).variables
  with hosts.main_first("data"):
    splits = data.load(config)
  figures = {
    "steps": step,
    **judge(config, evaluator, variables, splits).figures,
    **run_identity.as_field(workdir),
  }
  print(wording.one_line(step, figures))
  if hosts.is_main():
    _keep(workdir / workdirs.EVALUATION, figures)
  return figures


def _keep(path: pathlib.Path, figures: Mapping[str, Any]) -> None:
  """Writes evaluation.json, or prints the figures where it cannot."""
  try:
    with files.writing(path):
      problem = _problem(path)
      if problem:
        print(f"{problem}: now {workdirs.move_aside(path.parent, path)}")
      files.write_json(path, figures)
  except UserError:
    print(json.dumps(figures, indent=2))
    raise
  print(f"figures: {path}")


def _problem(path: pathlib.Path) -> str:
  """Returns why the file at `path` is not the run's own, "" if it may be."""
  try:
    found = files.read_json(path)
  except FileNotFoundError:
    return ""
  except files.UnreadableError as error:
    return str(error)
  run_id = found.get(workdirs.RUN_ID) if isinstance(found, dict) else None
  is_own = run_identity.is_own(run_id, run_identity.read(path.parent))
  return "" if is_own else f"{path} is of another run, {run_id}"
