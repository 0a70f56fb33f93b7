"""Finds image files in a folder and below it, and follows links."""

import dataclasses
import os
import pathlib
import stat

from experiments import files
from experiments.errors import UserError

SUFFIXES = (
  ".bmp .gif .jfif .jpe .jpeg .jpg .png .tif .tiff .webp".split()
)  # in lower case


@dataclasses.dataclass(frozen=True)
class Bad:
  """Something in a folder of images that cannot be encoded.

  Attributes:
    name: its path in the folder.
    reason: why it cannot be encoded, as a person reads it.
    has_other_sides: whether it could be encoded with its edges cut.
  """

  name: str
  reason: str
  has_other_sides: bool = False

  def __str__(self) -> str:
    return f"{printable(self.name)} ({self.reason})"


@dataclasses.dataclass
class Found:
  """The content of a folder; hidden files and folders are left out.

  Attributes:
    images: the paths in it of files whose names are those of images, sorted.
    bad: folders that cannot be read, links to nothing, images that are no
      files, and those whose names cannot be kept.
    others: the number of other files.
    repeated: links to folders whose images are found under another name, or
      that contain the folder itself.
  """

  images: list[str] = dataclasses.field(default_factory=list)
  bad: list[Bad] = dataclasses.field(default_factory=list)
  others: int = 0
  repeated: list[str] = dataclasses.field(default_factory=list)


def find(folder: pathlib.Path) -> Found:
  """Returns the content of a folder.

  Links to folders are followed.  They may go in circles, so each folder is read
  once.  Folders come before links, so that an image is found under its name
  without links.

  Args:
    folder: the folder of the images.

  Raises:
    UserError: if it is no folder, or cannot be read.
  """
  if not os.path.isdir(folder):
    raise UserError(f"--input is {folder}; it must be a folder of images")
  found = Found()
  seen = {_identity(parent) for parent in folder.resolve().parents}
  folders, links = [""], []
  while folders or links:
    below = folders.pop() if folders else links.pop(0)
    try:
      identity = _identity(folder / below)
      if identity in seen:
        found.repeated.append(below)
        continue
      seen.add(identity)
      with os.scandir(folder / below) as entries:
        entries = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
      if not below:
        raise UserError(
          f"--input is {folder}; it cannot be read ({error.strerror})"
        ) from error
      found.bad.append(Bad(below, f"cannot be read, {error.strerror}"))
      continue
    for entry in entries:
      name = f"{below}/{entry.name}" if below else entry.name
      if not entry.name.startswith("."):
        _put(entry, name, found, folders, links)
  found.images.sort()
  return found


def printable(name: object) -> str:
  """Returns the name of a file so that any terminal can show it in a line."""
  text = str(name)
  return text if text.isprintable() else repr(text)


def _put(
  entry: os.DirEntry[str],
  name: str,
  found: Found,
  folders: list[str],
  links: list[str],
) -> None:
  """Adds an entry of a folder to the list that it belongs to."""
  try:
    mode = entry.stat().st_mode  # of what a link leads to
  except OSError as error:
    is_missing = isinstance(error, FileNotFoundError)
    reason = f"cannot be read, {error.strerror}"
    found.bad.append(Bad(name, "links to nothing" if is_missing else reason))
    return
  fault = files.name_fault(name)
  if stat.S_ISDIR(mode):
    (links if entry.is_symlink() else folders).append(name)
  elif pathlib.PurePosixPath(name).suffix.lower() not in SUFFIXES:
    found.others += 1
  elif not stat.S_ISREG(mode):
    found.bad.append(Bad(name, "is no file"))
  elif fault:
    found.bad.append(Bad(name, f"has a name that {fault}; rename it"))
  else:
    found.images.append(name)


def _identity(path: pathlib.Path) -> tuple[int, int]:
  status = os.stat(path)
  return status.st_dev, status.st_ino
