"""The error for what a user can put right."""

from collections.abc import Callable
from collections.abc import Sequence
import sys

from absl import app


class UserError(Exception):
  """Bad input: `run` prints its one line, without a traceback, and exits.

  The message names the thing, what it got and what to do.
  """

  exit_code = 2
  label = "error"


class StoppedError(UserError):
  """A run was asked to stop, and has saved where it stands (EX_TEMPFAIL)."""

  exit_code = 75
  label = "stopped"


class InUseError(UserError):
  """Another process holds the directory of the run."""

  exit_code = 3


def run(
  main: Callable[[list[str]], None],
  flags_parser: Callable[
    [Sequence[str]], list[str]
  ] = app.parse_flags_with_usage,
) -> None:
  """Runs a program with absl; a `UserError` or Ctrl-C ends it with one line."""
  try:
    try:
      app.run(main, flags_parser=flags_parser)
    except KeyboardInterrupt as interrupt:
      raise StoppedError(
        "by SIGINT; go on with the same command"
      ) from interrupt
  except UserError as error:
    print(f"{error.label}: {error}", file=sys.stderr)
    sys.exit(error.exit_code)


def one_line(error: BaseException) -> str:
  """Returns an error's message without line breaks."""
  return " ".join(str(error).split()) or type(error).__name__
