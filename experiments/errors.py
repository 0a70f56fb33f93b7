"""The errors that a user can put right."""


class UserError(Exception):
  """Bad input: a command prints its one line, without a traceback, and exits.

  The message names the thing, what it got and what to do.

  Attributes:
    details: lines to print before it, "" if it says all.
  """

  details = ""
  exit_code = 2
  label = "error"


class StoppedError(UserError):
  """A run was asked to stop, and has saved where it stands (EX_TEMPFAIL)."""

  exit_code = 75
  label = "stopped"


class InUseError(UserError):
  """Another process holds the directory of the run."""

  exit_code = 3


def one_line(error: BaseException) -> str:
  """Returns an error's message without line breaks."""
  return " ".join(str(error).split()) or type(error).__name__
