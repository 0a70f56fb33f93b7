"""The place of what a command writes, which must be free."""

from collections.abc import Iterator
import contextlib
import os
import pathlib
import shutil
import tempfile

from experiments.errors import one_line
from experiments.errors import UserError
from experiments.processes import signals


def check_outside(output: pathlib.Path, folder: pathlib.Path) -> None:
  """Refuses an output among the images, where the next encoding would look."""
  place, images = map(os.path.realpath, (output.parent, folder))
  if pathlib.Path(place).is_relative_to(images):
    raise UserError(
      f"{output} is in {folder}, the folder of the images; name a place"
      " elsewhere with --output"
    )


@contextlib.contextmanager
def replacing(
  output: pathlib.Path, *, is_trial: bool = False
) -> Iterator[pathlib.Path]:
  """Yields a path for what becomes `output` when the code inside ends.

  The path is in a new directory on the same disk.  So it can have the name of
  the output, however long that is, and no existing file is in its way.

  Args:
    output: a file or a folder.
    is_trial: whether only to find out if the output can be written.
  """
  directory = None
  try:
    _check_absent(output)
    directory = tempfile.mkdtemp(
      prefix=f"{output.name[:20]}.", suffix=".tmp", dir=output.parent
    )
    temporary = pathlib.Path(directory) / output.name
    yield temporary
    if not is_trial:
      _check_absent(output)
      os.rename(temporary, output)
  except OSError as error:
    reason = error.strerror or one_line(error)
    raise UserError(
      f"{output} cannot be written ({reason}); make room, or name another"
      " place with --output"
    ) from error
  finally:
    if directory:
      with signals.postponed():
        shutil.rmtree(directory, ignore_errors=True)


def _check_absent(output: pathlib.Path) -> None:
  if not output.parent.is_dir():
    raise UserError(
      f"{output} cannot be written ({output.parent} is no directory); make it"
      " first, or name another place with --output"
    )
  try:
    os.lstat(output)
  except FileNotFoundError:
    return
  raise UserError(f"{output} exists already; name another with --output")
