"""Reads the config that the command line names, and changes its fields.

    --config=FILE[:VARIANT] --config.FIELD=VALUE ...

`--config=FILE:help` lists the variants.  A mistake in these flags or in FILE is
named in one line.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import importlib.machinery
import importlib.util
import os
import re
import sys
import traceback
from typing import Any

from absl import app
from absl import flags
import ml_collections

from experiments.configs import changes
from experiments.configs import datasets
from experiments.configs import fields
from experiments.configs import whole
from experiments.configs.variants import UnknownVariantError
from experiments.errors import one_line
from experiments.errors import UserError

_FILE = flags.DEFINE_string(
  "config",
  None,
  "FILE[:VARIANT], the experiment; by default that of workdir. FILE:help lists"
  " the variants.",
)
# `parse_flags` collects all --config.FIELD=VALUE in it.
_CHANGES = flags.DEFINE_multi_string(
  "config.FIELD", [], "VALUE of a field of the config, as in --config.seed=1."
)
_CHANGE = re.compile(r"--?(no)?config\.([^=]+)(=.*)?", re.DOTALL)
_NUMBER = re.compile(r"-[\d.]")
_MODULE = "config_file"
_FOLDER = os.path.join("experiments", "configs")
_HELP = "help"  # where a variant is expected


def parse_flags(argv: Sequence[str]) -> list[str]:
  """Parses the command line; for `app.run`.

  absl must know every flag in advance, but FILE defines the fields.  So all
  --config.FIELD=VALUE become values of a single flag.
  """
  try:
    argv = flags.FLAGS.read_flags_from_files(list(argv), force_gnu=False)
  except flags.Error:
    pass  # absl raises it again below
  try:
    return app.parse_flags_with_usage(_with_one_flag(argv))
  except ValueError as error:  # absl's of --noFLAG=VALUE
    raise UserError(one_line(error)) from error


def _with_one_flag(argv: Sequence[str]) -> list[str]:
  """Returns arguments with --config.FIELD=NAME=VALUE for --config.NAME=VALUE.

  As with other flags, VALUE may also be the next argument, and a bool may be
  written as --config.NAME or --noconfig.NAME.
  """
  result, rest = [], list(argv)
  while rest:
    argument = rest.pop(0)
    if argument == "--":
      return [*result, argument, *rest]
    match = _CHANGE.fullmatch(argument)
    if match:
      no, name, value = match.groups()
      if no and value is not None:
        raise UserError(
          f"{argument} has a value, which --noconfig.{name} cannot have; leave"
          f" it out, or give --config.{name}{value}"
        )
      if value is None:
        value = "=false" if no else "=true"
        if rest and (rest[0][:1] != "-" or _NUMBER.match(rest[0])):
          value = f"={rest.pop(0)}"
      argument = f"--{_CHANGES.name}={name}{value}"
    result.append(argument)
  return result


def from_flags() -> ml_collections.ConfigDict | None:
  """Returns the config that the flags describe, None where they name no file.

  Where they ask for help, lists the variants of the file, and exits.

  Raises:
    UserError: if the file gives no config, or if a field of it or of the
      command line is unknown, missing or of another type.
  """
  if not _FILE.value:
    if _FILE.present or _CHANGES.value:
      raise UserError(
        "--config names no file; give --config=FILE[:VARIANT], also to change"
        " fields of the config"
      )
    return None
  try:
    config = _read(_FILE.value)
  except UnknownVariantError as error:
    # Its get_config alone knows which data set's variants a file has.
    if _FILE.value.partition(":")[2] != _HELP:
      raise
    print(error.details)
    sys.exit(0)
  name = config.name
  assignments = [each.partition("=") for each in _CHANGES.value]
  changes.apply_texts(config, [(field, text) for field, _, text in assignments])
  if config.name != name:
    raise UserError(
      f"config.name is {fields.shown(config.name)}, but --config={_FILE.value}"
      f" is of {name}; name a config file of the other data set"
    )
  return config


def _read(file_and_variant: str) -> ml_collections.ConfigDict:
  """Returns what the `get_config` of a file returns, locked."""
  name, _, variant = file_and_variant.partition(":")
  path = _find(os.path.expanduser(name))
  flag = f"--config={file_and_variant}"
  try:
    config = _get_config(path, flag)(*([variant] if variant else []))
    if not isinstance(config, ml_collections.ConfigDict):
      raise UserError(
        f"{flag} cannot be used: its get_config returns"
        f" {fields.shown(config)}; it must return an ml_collections.ConfigDict"
      )
    config = ml_collections.ConfigDict(config)  # in place of a frozen one
    with _naming(name):
      whole.check_types(config)
  except UserError:
    raise
  except (Exception, SystemExit) as error:  # code may raise anything
    raise UserError(
      f"{flag} cannot be used: {type(error).__name__}{_place(path, error)},"
      f" {one_line(error)}"
    ) from error
  return config.lock()


def _find(path: str) -> str:
  """Returns where a file is.

  Where there is no such file, `experiments/configs/NAME` is that of this
  package, whatever the current directory.
  """
  folder, name = os.path.split(os.path.normpath(path))
  own = os.path.join(os.path.dirname(datasets.__file__), name)
  is_own = folder == _FOLDER and os.path.isfile(own)
  return own if is_own and not os.path.lexists(path) else path


@contextlib.contextmanager
def _naming(name: str) -> Iterator[None]:
  """Adds the name of a file to the errors of what it holds."""
  try:
    yield
  except UserError as error:
    raise UserError(f"in {name}, {error}") from error


def _get_config(path: str, flag: str) -> Callable[..., Any]:
  """Returns the function `get_config` of a Python file."""
  remedy = "it must be a Python file with a function get_config"
  loader = importlib.machinery.SourceFileLoader(_MODULE, path)
  spec = importlib.util.spec_from_loader(_MODULE, loader)
  module = importlib.util.module_from_spec(spec)
  try:
    loader.get_code(_MODULE)  # reads and compiles it
  except OSError as error:
    raise UserError(f"--config cannot be read: {one_line(error)}") from error
  except (SyntaxError, ValueError) as error:
    raise UserError(
      f"{flag} cannot be used: {one_line(error)}; {remedy}"
    ) from error
  sys.modules[_MODULE] = module  # where its own classes look for it
  loader.exec_module(module)
  if not callable(getattr(module, "get_config", None)):
    raise UserError(f"{flag} has no get_config; {remedy}")
  return module.get_config


def _place(path: str, error: BaseException) -> str:
  """Names the last line of a file that an error came through."""
  lines = [
    frame.lineno
    for frame in traceback.extract_tb(error.__traceback__)
    if frame.filename == path
  ]
  return f" in line {lines[-1]}" if lines else ""
