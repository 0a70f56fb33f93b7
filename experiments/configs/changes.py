"""Changes fields of a config, by their names.

Some fields say what others there are: `quantizer.kind`, and slots of the
quantizer such as `quantizer.update`, which may be given as the name of a kind.
These are changed first, so that the order in which changes are written means
nothing to the others.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any

import ml_collections

from experiments.configs import fields
from experiments.configs import quantizers
from experiments.errors import UserError

_Changes = Iterable[tuple[str, Any]]


def apply(
  config: ml_collections.ConfigDict, changes: Mapping[str, Any]
) -> None:
  """Gives fields of a config other values.

  Args:
    config: of a data set.
    changes: values by field, such as "data.channels".

  Raises:
    UserError: if there is no such field, a value is not of its type, or a
      field is missing that the others need.
  """
  _apply(config, changes.items(), lambda value, current: value)


def apply_texts(
  config: ml_collections.ConfigDict, changes: Iterable[tuple[str, str]]
) -> None:
  """Gives fields of a config the values that texts stand for.

  Args:
    config: one whose types are checked.
    changes: fields and texts, as on a command line; of one field, the last
      counts.

  Raises:
    UserError: as `apply`.
  """
  _apply(config, changes, lambda text, now: fields.read(text, type(now)))


def _apply(
  config: ml_collections.ConfigDict,
  changes: _Changes,
  read: Callable[[Any, Any], Any],
) -> None:
  of_kinds, others = [], []
  for field, value in changes:
    path = _path_of_kind(field)
    if path is None:
      others.append((field, value))
    else:
      of_kinds.append((path, field, value))
  # A slot is one of the quantizer's kind.
  for path, field, value in sorted(of_kinds, key=lambda each: len(each[0])):
    _switch(config, path, field, value)
  for field, value in others:
    current = fields.flatten(config.to_dict())
    if field not in current:
      raise fields.unknown(field, value, config.name, current)
    now = current[field]
    value = fields.cast(field, read(value, now), now)
    config.update_from_flattened_dict({field: value})
  if of_kinds:
    _check_given(config, {field for field, _ in others})


def _path_of_kind(field: str) -> tuple[str, ...] | None:
  """Returns where a quantizer is given another kind of part, None if nowhere.

  Returns:
    () for the quantizer itself, else the names of its slot.
  """
  block, *path = field.split(".")
  if block != quantizers.BLOCK or not path:
    return None
  names_kind = path[-1] == quantizers.KIND
  if names_kind:
    path = path[:-1]
  if not path:
    return ()
  return tuple(path) if path[-1] in quantizers.slots() else None


def _switch(
  config: ml_collections.ConfigDict,
  path: tuple[str, ...],
  field: str,
  kind: Any,
) -> None:
  current = config.to_dict()
  name = ".".join((quantizers.BLOCK, *path, quantizers.KIND))
  known = fields.flatten(current)
  if name not in known:
    raise fields.unknown(field, kind, config.name, known)
  block = quantizers.switched(current[quantizers.BLOCK], path, kind)
  with config.unlocked():
    # An assignment would not take the other fields away.
    del config[quantizers.BLOCK]
    config[quantizers.BLOCK] = ml_collections.ConfigDict(block)


def _check_given(
  config: ml_collections.ConfigDict, given: Iterable[str]
) -> None:
  """Raises a UserError if a field has no value yet."""
  block = config[quantizers.BLOCK].to_dict()
  missing = [
    f"{quantizers.BLOCK}.{name}"
    for name in quantizers.required(block)
    if not block[name] and f"{quantizers.BLOCK}.{name}" not in given
  ]
  if missing:
    names = " and ".join(f"config.{name}" for name in missing)
    flags = " ".join(f"--config.{name}=..." for name in missing)
    raise UserError(
      f"config.{quantizers.BLOCK}.{quantizers.KIND} is {block['kind']!r}, which"
      f" needs {names}; give {flags} too"
    )
