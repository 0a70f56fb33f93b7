"""Holding a run's directory, for one process at a time."""

from collections.abc import Iterator
import contextlib
import dataclasses
import fcntl
import os
import pathlib
import uuid

import ml_collections

from experiments import files
from experiments.errors import InUseError
from experiments.errors import UserError
from experiments.runs import config_changes
from experiments.runs import run_identity
from experiments.runs import workdir as workdirs

_LOCK = "lock"


@dataclasses.dataclass(frozen=True)
class Claim:
  """A directory that this process holds.

  Attributes:
    workdir: the directory.
    descriptor: the open directory; None in a process that holds nothing, but
      works beside one that does.
  """

  workdir: pathlib.Path
  descriptor: int | None = None

  @property
  def steady_path(self) -> pathlib.Path:
    """A path that still leads to the directory after it was moved.

    Background work that used the name would make another directory of that
    name.  Without Linux's /proc the path is just the name.
    """
    path = pathlib.Path(f"/proc/self/fd/{self.descriptor}")
    return path if path.exists() else self.workdir

  def check(self) -> None:
    """Raises a UserError if the directory is no longer where it was."""
    if self.descriptor is None:
      return
    try:
      is_in_place = os.path.samestat(
        os.stat(self.workdir), os.fstat(self.descriptor)
      )
    except FileNotFoundError:
      is_in_place = False
    if not is_in_place:
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

  A run gets its identity when it begins.

  Raises:
    UserError: if it holds a run with another config or something that is no
      run, another process holds it, or it cannot be written.
  """
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    _check_content(workdir)
    config_changes.check_same_run(workdir, config)
    with _locked(workdir) as descriptor:
      known = {workdirs.RUN_ID: run_identity.read(workdir) or uuid.uuid4().hex}
      fields = config_changes.to_store(workdir, config)
      files.write_json(workdir / workdirs.CONFIG, fields | known)
      yield Claim(workdir, descriptor)
  except OSError as error:
    raise UserError(
      f"workdir {workdir} cannot be used ({error}); name another directory"
      " with --workdir=DIR"
    ) from error


def _check_content(workdir: pathlib.Path) -> None:
  """Raises a UserError if something in a directory would be in a run's way."""
  if not os.path.lexists(workdir / workdirs.CONFIG):
    if workdirs.is_begun(workdir):
      raise UserError(
        f"workdir {workdir} holds a run without its {workdirs.CONFIG}; bring it"
        " back from a copy, or name another directory with --workdir=DIR"
      )
    known = {
      _LOCK,
      workdirs.CONFIG,
      files.temporary_name(workdir / workdirs.CONFIG).name,
    }
    strangers = {path.name for path in workdir.iterdir()} - known
    if strangers:
      raise UserError(
        f"workdir {workdir} holds {min(strangers)!r} but no run; name an"
        " empty directory with --workdir=DIR"
      )
  for name in (workdirs.CONFIG, workdirs.METRICS, _LOCK):
    path = workdir / name
    if path.exists() and not path.is_file():
      raise UserError(f"{path} is no file, as the run's is; move it away")
  for name in (
    workdirs.CHECKPOINTS,
    workdirs.FREQUENCIES,
    workdirs.TENSORBOARD,
    workdirs.DAMAGED,
  ):
    path = workdir / name
    if os.path.lexists(path) and not path.is_dir():
      raise UserError(f"{path} is no directory, as the run's is; move it away")


@contextlib.contextmanager
def _locked(workdir: pathlib.Path) -> Iterator[int]:
  """Locks a directory, and a file in it; yields the open directory.

  Two locks are needed: somebody may delete the locked file, and file systems
  over a network may lack locks of directories.
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
