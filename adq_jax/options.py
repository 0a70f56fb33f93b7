"""Options of a quantizer that are objects in a slot, and not flags.

What papers change of a quantizer is how its codewords move, where they are
placed, what gradient its values have, and so on.  Each is a slot of the
quantizer: a field whose value is a small frozen dataclass with the behaviour.
Another paper is another class.
"""

from collections.abc import Iterator
import contextlib
from typing import Any


class Option:
  """The base of what a slot takes."""

  def check(self) -> None:
    """Raises a ValueError, "FIELD is X; it must be Y", if one does not fit."""


def check_option(slot: str, value: Any, kind: type[Option], like: str) -> None:
  """Raises a ValueError unless a slot has an option whose fields fit.

  Args:
    slot: the name of the field.
    value: what it has.
    kind: what it takes.
    like: an example of that.
  """
  if not isinstance(value, kind):
    raise ValueError(
      f"{slot} is {value!r:.200}; it must be an {kind.__name__}, such as {like}"
    )
  with named(slot):
    value.check()


@contextlib.contextmanager
def named(slot: str) -> Iterator[None]:
  """Puts the name of a slot before that of a field that a ValueError names."""
  try:
    yield
  except ValueError as error:
    raise ValueError(f"{slot}.{error}") from error
