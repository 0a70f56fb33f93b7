"""How every command begins and ends.

It ends with one line on standard error and an exit code, whatever happens: bad
input, a signal, a file that cannot be written, or a bug.  Before that line it
may list what there is instead of what was asked for.  docs/robustness.md
lists the exit codes.
"""

import asyncio.log
from collections.abc import Callable
from collections.abc import Sequence
import os
import pathlib
import sys
import tempfile
import threading
import traceback

from absl import app
from absl import flags
from absl import logging

from experiments.errors import one_line
from experiments.errors import StoppedError
from experiments.errors import UserError
from experiments.processes import outputs
from experiments.processes import signals


def run(
  main: Callable[[list[str]], None],
  flags_parser: Callable[
    [Sequence[str]], list[str]
  ] = app.parse_flags_with_usage,
) -> None:
  """Runs a program with absl, and exits.

  Args:
    main: the program; it gets the arguments that are no flags.  A signal raises
      an Interrupt in it, unless it uses `signals.stop_request`.
    flags_parser: the `flags_parser` of `absl.app.run`.
  """
  outputs.make_safe()
  logging.get_absl_handler().python_handler.setStream(sys.stderr)
  # Orbax saves arrays in many tasks.  When a disk is full, one of those that
  # fail says why, and asyncio would tell of the others when they are forgotten.
  asyncio.log.logger.setLevel("CRITICAL")
  sys.unraisablehook = _drop_of_threads
  try:
    with signals.interrupting():
      app.run(main, flags_parser=flags_parser)
    code = 0
  except SystemExit as end:
    code = end.code
  except BaseException as error:
    code = _say_why(error)
  # Signals that come later must not change how the command ends.
  signals.ignore()
  sys.exit(code)


def _drop_of_threads(unraisable: object) -> None:
  """Drops errors that a library's own threads could not raise anywhere.

  A library raises those that matter also in the thread that waits for it.
  """
  if threading.current_thread() is threading.main_thread():
    sys.__unraisablehook__(unraisable)


def _say_why(error: BaseException) -> int:
  """Prints in a line why a command ends; returns its exit code."""
  # Both streams may go to one file, of which the reason must be the last line.
  sys.stdout.flush()
  if isinstance(error, KeyboardInterrupt):
    name = getattr(error, "name", "SIGINT")
    error = StoppedError(f"by {name}; go on with the same command")
  elif isinstance(error, OSError) and error.errno is not None:
    error = UserError(
      f"{one_line(error)}; put that right, and give the same command again"
    )
  if isinstance(error, UserError):
    if error.details:
      print(f"{error.details}\n", file=sys.stderr)
    print(f"{error.label}: {error}", file=sys.stderr)
    return error.exit_code
  print(
    f"error: this is a bug, {type(error).__name__}: {one_line(error)}; please"
    f" report it with its traceback, {_keep_traceback(error)}",
    file=sys.stderr,
  )
  return os.EX_SOFTWARE


def _keep_traceback(error: BaseException) -> str:
  """Writes a traceback to a file; returns where it is."""
  lines = traceback.format_exception(error)
  try:
    with tempfile.NamedTemporaryFile(
      "w",
      prefix="adq_jax_",
      suffix=".txt",
      delete=False,
      encoding="utf-8",
      errors="backslashreplace",
    ) as file:
      file.writelines(lines)
    return f"which is in {file.name}"
  except OSError:  # there is no room for it
    return "".join(["which follows\n", *lines]).rstrip()


def path_of(flag: flags.FlagHolder[str | None]) -> pathlib.Path | None:
  """Returns the path that a flag names; None where the flag is not given.

  A leading `~` is the home directory, as shells expand it in `--flag ~/x` but
  not in `--flag=~/x`.

  Raises:
    UserError: if it is empty, or there is no such home directory.
  """
  if flag.value is None:
    return None
  if not flag.value:
    raise UserError(f"--{flag.name} is empty; name a path, or leave it out")
  try:
    return pathlib.Path(flag.value).expanduser()
  except RuntimeError as error:
    raise UserError(
      f"--{flag.name} is {flag.value!r} ({one_line(error)}); name another path"
    ) from error
