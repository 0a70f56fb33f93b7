"""The directory that a run owns, and the files that say what it is."""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import fcntl
import json
import os
import pathlib
from typing import Any

import ml_collections

from experiments import fields as fields_lib
from experiments.errors import InUseError
from experiments.errors import one_line
from experiments.errors import UserError

CONFIG = "config.json"
METRICS = "metrics.jsonl"
SUMMARY = "summary.json"
CHECKPOINTS = "checkpoints"
_LOCK = "lock"

# What may differ when a run goes on: none of it changes a step that is done.
# (A larger num_steps continues schedules that depend on it at their new
# values.)
MAY_CHANGE = frozenset(
  {
    "num_steps",
    "steps_per_call",
    "log_every",
    "eval_every",
    "checkpoint_every",
    "gradient_gap_every",
    "on_nonfinite",
    "max_skipped",
    "check_replicas",
    "rate_examples",
    "data.manual_dir",
    "data.data_dir",
    "data.memory_budget_gib",
    "data.paper_batch_size",
  }
)


@contextlib.contextmanager
def claim(
  workdir: pathlib.Path, config: ml_collections.ConfigDict
) -> Iterator[None]:
  """Holds `workdir` for one process, as the run that `config` describes.

  Raises:
    UserError: if it holds a run with another config or something that is no
      run, another process holds it, or it cannot be written.
  """
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    known = {_LOCK, CONFIG, _temporary(workdir / CONFIG).name}
    strangers = {path.name for path in workdir.iterdir()} - known
    if strangers and not (workdir / CONFIG).exists():
      raise UserError(
        f"workdir {workdir} holds {min(strangers)!r} but no run; name an"
        " empty directory with --workdir=DIR"
      )
    check_same_run(workdir, config)
    with open(workdir / _LOCK, "w") as lock:
      try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
      except BlockingIOError as error:
        raise InUseError(
          f"workdir {workdir} is in use by another process; wait for it or"
          " name another directory with --workdir=DIR"
        ) from error
      write_json(workdir / CONFIG, config.to_dict())
      yield
  except OSError as error:
    raise UserError(
      f"workdir {workdir} cannot be used ({error}); name another directory"
      " with --workdir=DIR"
    ) from error


def is_claimed(workdir: pathlib.Path) -> bool:
  """Returns whether a living process holds `workdir`."""
  try:
    with open(workdir / _LOCK) as lock:
      fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
  except FileNotFoundError:
    return False
  except BlockingIOError:
    return True
  return False


def check_same_run(
  workdir: pathlib.Path, config: ml_collections.ConfigDict
) -> None:
  """Raises a UserError if `workdir` holds a run with another config.

  One that never got to its first step, for want of data, may be given another.
  """
  if not (workdir / METRICS).exists():
    return
  there, wanted = fields_of(read_config(workdir)), fields_of(config)
  fields = sorted((there.keys() | wanted.keys()) - MAY_CHANGE)
  differing = differences(there, wanted, fields)
  if differing:
    raise UserError(
      f"workdir {workdir} holds a run with another config, differing in"
      f" {', '.join(differing)}; name another directory with --workdir=DIR"
    )


def differences(
  there: Mapping[str, Any], wanted: Mapping[str, Any], fields: Iterable[str]
) -> list[str]:
  """Returns what to say of each field that is not as wanted."""
  return [
    f"{field} ({there.get(field)!r} there, {wanted.get(field)!r} wanted)"
    for field in fields
    if there.get(field) != wanted.get(field)
  ]


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
    return fields_lib.complete(dict(json.loads(path.read_text())))
  except UserError as error:
    raise UserError(f"in {path}, {error}") from error
  except FileNotFoundError as error:
    raise UserError(
      f"{workdir} holds no run: it has no {CONFIG}; name a run's directory"
    ) from error
  except (AttributeError, RecursionError, TypeError, ValueError) as error:
    raise UserError(f"{path} is damaged ({one_line(error)})") from error


def write_json(path: pathlib.Path, value: Any) -> None:
  """Writes a JSON file whole or not at all."""
  temporary = _temporary(path)
  temporary.write_text(json.dumps(value, indent=2) + "\n")
  os.replace(temporary, path)


def _temporary(path: pathlib.Path) -> pathlib.Path:
  return path.with_name(path.name + ".tmp")


def fields_of(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """Returns the fields of a config by name, with values as a file has them."""
  return fields_lib.flatten(json.loads(json.dumps(config.to_dict())))
