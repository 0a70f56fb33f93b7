"""Files that are written completely or not at all, and read with care."""

from collections.abc import Iterator
import contextlib
import json
import os
import pathlib
from typing import Any

from experiments.errors import one_line
from experiments.errors import UserError

MAX_NAME = 1024  # bytes, of a path in a folder


class UnreadableError(UserError):
  """A file is damaged, or cannot be read; the message names it."""


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[pathlib.Path]:
  """Yields a temporary path for what becomes `path` when the code inside ends.

  If the code fails, nothing is left behind.
  """
  temporary = temporary_name(path)
  try:
    yield temporary
    os.replace(temporary, path)
  except BaseException:
    with contextlib.suppress(OSError):
      temporary.unlink()
    raise


@contextlib.contextmanager
def writing(path: pathlib.Path) -> Iterator[None]:
  """Raises a UserError that names the path if the code inside cannot write."""
  try:
    yield
  except OSError as error:
    raise UserError(f"{path} cannot be written ({one_line(error)})") from error


def temporary_name(path: pathlib.Path) -> pathlib.Path:
  """Returns the name of a file until it is complete."""
  return path.with_name(path.name + ".tmp")


def write_text(path: pathlib.Path, text: str) -> None:
  """Writes a text file completely or not at all."""
  with replacing(path) as temporary:
    temporary.write_text(text, encoding="utf-8")


def write_json(path: pathlib.Path, value: Any) -> None:
  """Writes a JSON file completely or not at all."""
  write_text(path, json.dumps(value, indent=2) + "\n")


def read_json(path: pathlib.Path) -> Any:
  """Returns what a JSON file holds.

  Raises:
    FileNotFoundError: if there is none.
    UnreadableError: if it is no file, cannot be read, or is damaged.
  """
  try:
    if path.exists() and not path.is_file():  # a pipe would never end
      raise UnreadableError(f"{path} is no file; move it away")
    return json.loads(path.read_bytes())
  except FileNotFoundError:
    raise
  except OSError as error:
    raise UnreadableError(
      f"{path} cannot be read ({one_line(error)})"
    ) from error
  except (RecursionError, ValueError) as error:
    raise UnreadableError(f"{path} is damaged ({one_line(error)})") from error


def check_name(name: Any) -> None:
  """Raises a ValueError unless `name` is a path that stays in its folder."""
  fault = name_fault(name)
  if fault:
    raise ValueError(f"{name!r:.99} {fault}")


def name_fault(name: Any) -> str | None:
  """Returns why a name is no path that stays in its folder, if it is none."""
  if not isinstance(name, str) or any(c < " " or c == "\x7f" for c in name):
    return "is no name of a file"
  try:
    size = len(name.encode())
  except UnicodeEncodeError:
    return "is no UTF-8"
  if {"", ".", ".."} & set(name.split("/")) or "\\" in name:
    return "is no path inside a folder"
  return f"is longer than {MAX_NAME} bytes" if size > MAX_NAME else None
