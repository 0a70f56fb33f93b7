"""The directory that a run owns, and the files that say what it is."""

import collections
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import dataclasses
import fcntl
import json
import os
import pathlib
import shutil
from typing import Any
import uuid

import ml_collections

from experiments import files
from experiments.configs import fields as fields_lib
from experiments.errors import InUseError
from experiments.errors import one_line
from experiments.errors import UserError
from experiments.files import write_json

CONFIG = "config.json"
METRICS = "metrics.jsonl"
SUMMARY = "summary.json"
EVALUATION = "evaluation.json"
CHECKPOINTS = "checkpoints"
TENSORBOARD = "tensorboard"
DAMAGED = "damaged"
RUN_ID = "run_id"
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
# Of these, what makes another program of the same steps: they are the same
# within rounding, but not to the bit.
_OF_ROUNDING = ("steps_per_call",)


@dataclasses.dataclass(frozen=True)
class Claim:
  """A directory that this process holds.

  Attributes:
    workdir: the directory.
    descriptor: of the directory, open; None in a process that holds nothing,
      but works beside one that does.
  """

  workdir: pathlib.Path
  descriptor: int | None = None

  @property
  def steady_path(self) -> pathlib.Path:
    """A path of the directory that stays with it where it is moved.

    Background work that goes by the name would make another one of that name.
    Without Linux's /proc it is just the name.
    """
    path = pathlib.Path(f"/proc/self/fd/{self.descriptor}")
    return path if path.exists() else self.workdir

  def check(self) -> None:
    """Raises a UserError if the directory is no longer where it was."""
    if self.descriptor is None:
      return
    try:
      is_there = os.path.samestat(
        os.stat(self.workdir), os.fstat(self.descriptor)
      )
    except FileNotFoundError:
      is_there = False
    if not is_there:
      raise UserError(
        f"workdir {self.workdir} was moved, removed or replaced while the run"
        " was going on, so nothing more is written; move it back, and go on"
        " with the same command"
      )


@contextlib.contextmanager
def claim(
  workdir: pathlib.Path, config: ml_collections.ConfigDict
) -> Iterator[Claim]:
  """Holds `workdir` for one process, as the run that `config` describes.

  A run that begins is given its identity.

  Raises:
    UserError: if it holds a run with another config or something that is no
      run, another process holds it, or it cannot be written.
  """
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    _check_content(workdir)
    check_same_run(workdir, config)
    with _locked(workdir) as descriptor:
      known = {RUN_ID: identity(workdir) or uuid.uuid4().hex}
      write_json(workdir / CONFIG, config.to_dict() | known)
      yield Claim(workdir, descriptor)
  except OSError as error:
    raise UserError(
      f"workdir {workdir} cannot be used ({error}); name another directory"
      " with --workdir=DIR"
    ) from error


def _check_content(workdir: pathlib.Path) -> None:
  """Raises a UserError if something in a directory would be in a run's way."""
  if not os.path.lexists(workdir / CONFIG):
    if is_begun(workdir):
      raise UserError(
        f"workdir {workdir} holds a run without its {CONFIG}; bring it back"
        " from a copy, or name another directory with --workdir=DIR"
      )
    known = {_LOCK, CONFIG, files.temporary_name(workdir / CONFIG).name}
    strangers = {path.name for path in workdir.iterdir()} - known
    if strangers:
      raise UserError(
        f"workdir {workdir} holds {min(strangers)!r} but no run; name an"
        " empty directory with --workdir=DIR"
      )
  for name in (CONFIG, METRICS, _LOCK):
    path = workdir / name
    if path.exists() and not path.is_file():
      raise UserError(f"{path} is no file, as the run's is; move it away")
  for name in (CHECKPOINTS, TENSORBOARD, DAMAGED):
    path = workdir / name
    if os.path.lexists(path) and not path.is_dir():
      raise UserError(f"{path} is no directory, as the run's is; move it away")


@contextlib.contextmanager
def _locked(workdir: pathlib.Path) -> Iterator[int]:
  """Locks a directory, and a file in it; gives a descriptor of the directory.

  Somebody may delete the file while it is locked, and file systems over a
  network may lack locks of directories.
  """
  with contextlib.ExitStack() as stack:
    descriptor = os.open(workdir, os.O_RDONLY | os.O_DIRECTORY)
    stack.callback(os.close, descriptor)
    lock = stack.enter_context(open(workdir / _LOCK, "w"))
    try:
      fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
      _lock_directory(descriptor, fcntl.LOCK_EX)
    except BlockingIOError as error:
      raise InUseError(
        f"workdir {workdir} is in use by another process; wait for it or"
        " name another directory with --workdir=DIR"
      ) from error
    yield descriptor


def _lock_directory(descriptor: int, kind: int) -> None:
  try:
    fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
  except BlockingIOError:
    raise
  except OSError:  # the file system lacks such locks
    pass


def is_claimed(workdir: pathlib.Path) -> bool:
  """Returns whether a living process holds `workdir`."""
  try:
    descriptor = os.open(workdir, os.O_RDONLY | os.O_DIRECTORY)
  except OSError:
    return False
  with contextlib.ExitStack() as stack:
    stack.callback(os.close, descriptor)
    try:
      _lock_directory(descriptor, fcntl.LOCK_SH)
      lock = stack.enter_context(open(workdir / _LOCK))
      fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
      return True
    except OSError:  # there is none, or it cannot be read
      return False
  return False


def identity(workdir: pathlib.Path) -> str:
  """Returns the identity of the run in `workdir`.

  A run is given it when it begins, and it is in all that the run writes, so
  that the files of another run are told from its own.  It is "" where a run
  is from before there were identities.
  """
  try:
    known = files.read_json(workdir / CONFIG)[RUN_ID]
    if isinstance(known, str):
      return known
  except (FileNotFoundError, KeyError, TypeError, files.UnreadableError):
    pass
  # A config.json of before, or brought back from then: the log may know.
  lines = []
  with contextlib.suppress(OSError):
    lines = (workdir / METRICS).read_bytes().splitlines()
  found = collections.Counter()
  for line in lines:
    with contextlib.suppress(AttributeError, RecursionError, ValueError):
      found[str(json.loads(line).get(RUN_ID, ""))] += 1
  return found.most_common(1)[0][0] if found else ""


def known_identity(workdir: pathlib.Path) -> dict[str, str]:
  """Returns what a file of the run says of its identity, if it has one."""
  run_id = identity(workdir)
  return {RUN_ID: run_id} if run_id else {}


def is_own(found: Any, own: str) -> bool:
  """Returns whether what has the identity `found` belongs to the run `own`.

  What has none is from before there were identities, and belongs.
  """
  return found is None or found == own


def is_begun(workdir: pathlib.Path) -> bool:
  """Returns whether a run has made a step, so that its config is binding."""
  files_of_steps = (METRICS, SUMMARY)
  return bool(steps_of(workdir)) or any(
    os.path.lexists(workdir / name) for name in files_of_steps
  )


def steps_of(workdir: pathlib.Path) -> list[int]:
  """Returns the steps of all checkpoints of a run, ascending, whole or not."""
  names = []
  with contextlib.suppress(OSError):
    names = os.listdir(workdir / CHECKPOINTS)
  names = [name for name in names if name.isdecimal()]
  return sorted(int(name) for name in names if str(int(name)) == name)


def move_aside(workdir: pathlib.Path, path: pathlib.Path) -> pathlib.Path:
  """Moves a file or directory of a run to where nobody looks, `damaged/`.

  Returns:
    Where it is now.
  """
  place = _place_aside(workdir, path)
  os.rename(path, place)
  return place


def copy_aside(workdir: pathlib.Path, path: pathlib.Path) -> pathlib.Path:
  """Copies a file of a run to there; returns where the copy is."""
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


def check_same_run(
  workdir: pathlib.Path, config: ml_collections.ConfigDict
) -> None:
  """Raises a UserError if `workdir` holds a run with another config.

  One that never got to its first step, for want of data, may be given another.
  """
  if not is_begun(workdir):
    return
  there, wanted = fields_of(read_config(workdir)), fields_of(config)
  fields = sorted((there.keys() | wanted.keys()) - MAY_CHANGE)
  differing = differences(there, wanted, fields)
  if differing:
    raise UserError(
      f"workdir {workdir} holds a run with another config, differing in"
      f" {', '.join(differing)}; name another directory with --workdir=DIR"
    )


def rounding_changes(
  workdir: pathlib.Path, config: ml_collections.ConfigDict
) -> list[str]:
  """Returns what to say of changed fields that leave a run's bits open."""
  if not is_begun(workdir):
    return []
  there, wanted = fields_of(read_config(workdir)), fields_of(config)
  return differences(there, wanted, _OF_ROUNDING)


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
    values = dict(files.read_json(path))
    values.pop(RUN_ID, None)  # no field of a config
    return fields_lib.complete(values)
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


def fields_of(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """Returns the fields of a config by name, with values as a file has them."""
  return fields_lib.flatten(json.loads(json.dumps(config.to_dict())))
