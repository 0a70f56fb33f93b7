"""The directory that a run owns: its files, and its config."""

import contextlib
import os
import pathlib
import shutil

import ml_collections

from experiments import files
from experiments.configs import whole
from experiments.errors import one_line
from experiments.errors import UserError

CONFIG = "config.json"
METRICS = "metrics.jsonl"
SUMMARY = "summary.json"
EVALUATION = "evaluation.json"
CHECKPOINTS = "checkpoints"
FREQUENCIES = "frequencies"
TENSORBOARD = "tensorboard"
DAMAGED = "damaged"
RUN_ID = "run_id"


def is_begun(workdir: pathlib.Path) -> bool:
  """Returns whether a run has made a step, which makes its config binding."""
  files_of_steps = (METRICS, SUMMARY)
  return bool(steps_of(workdir)) or any(
    os.path.lexists(workdir / name) for name in files_of_steps
  )


def steps_of(workdir: pathlib.Path) -> list[int]:
  """Returns the steps of all checkpoints, ascending, also of damaged ones."""
  names = []
  with contextlib.suppress(OSError):
    names = os.listdir(workdir / CHECKPOINTS)
  names = [name for name in names if name.isdecimal()]
  return sorted(int(name) for name in names if str(int(name)) == name)


def move_aside(workdir: pathlib.Path, path: pathlib.Path) -> pathlib.Path:
  """Moves a file or directory of a run into its `damaged/`.

  Returns:
    The new path.
  """
  place = _place_aside(workdir, path)
  os.rename(path, place)
  return place


def copy_aside(workdir: pathlib.Path, path: pathlib.Path) -> pathlib.Path:
  """Copies a file of a run into its `damaged/`; returns the new path."""
  place = _place_aside(workdir, path)
  shutil.copy2(path, place)
  return place


def _place_aside(workdir: pathlib.Path, path: pathlib.Path) -> pathlib.Path:
  place, count = workdir / DAMAGED / path.name, 1
  while os.path.lexists(place):
    count += 1
    place = place.with_name(f"{path.stem}_{count}{path.suffix}")
  place.parent.mkdir(exist_ok=True)
  return place


def read_config(workdir: pathlib.Path) -> ml_collections.ConfigDict:
  """Returns the config of the run in `workdir`.

  A field that there was not yet when it began has its default, which leaves
  things as they were.

  Raises:
    UserError: if there is none, or it is damaged, or a field of it is unknown
      or not of its type.
  """
  path = workdir / CONFIG
  try:
    values = dict(files.read_json(path))
    values.pop(RUN_ID, None)  # no field of a config
    return whole.complete(values)
  except files.UnreadableError:
    raise  # it names the path
  except UserError as error:
    raise UserError(f"in {path}, {error}") from error
  except FileNotFoundError as error:
    raise UserError(
      f"{workdir} holds no run: it has no {CONFIG}; name a run's directory"
    ) from error
  except (AttributeError, RecursionError, TypeError, ValueError) as error:
    raise UserError(f"{path} is damaged ({one_line(error)})") from error
