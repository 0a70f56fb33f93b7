"""The fields of a config: their names, and the types of their values.

A field has the type of its default.  Every value that a person writes is
checked here first, whether it comes from the command line, a config file or a
config.json.
"""

import ast
from collections.abc import Mapping
import difflib
from typing import Any

from absl import flags
import numpy as np

from experiments.configs.upgrade import MOVED
from experiments.errors import UserError

# The types of values that a field of each type accepts.  A bool is an int to
# Python, but `cast` tells them apart.
_TAKEN = {
  bool: (bool, np.bool_),
  int: (int, np.integer),
  float: (float, int, np.floating, np.integer),
  str: (str,),
  tuple: (tuple, list),
}
_WANTED = {
  bool: "True or False",
  int: "an integer",
  float: "a finite number",
  str: "a string",
  tuple: "a tuple",
}
_LARGEST_INT = 2**63 - 1
_LARGEST_FLOAT = float(np.finfo(np.float32).max)  # JAX computes in float32
_MAY_BE_INFINITE = ("data.memory_budget_gib",)  # everything fits
_LONGEST_SHOWN = 100  # characters of a value


def wrong(field: str, value: Any, wanted: str) -> UserError:
  """Returns the error of a field whose value must be another."""
  return UserError(f"config.{field} is {shown(value)}; it must be {wanted}")


def shown(value: Any) -> str:
  """Returns the text of a value of any type, short enough for one line."""
  try:
    text = " ".join(repr(value).split())
  except Exception:  # an integer of too many digits, or a class of its own
    return f"too long to print, of type {type(value).__name__}"
  if len(text) > _LONGEST_SHOWN:
    return f"{text[:_LONGEST_SHOWN]}..."
  return text


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
  """Returns the leaves of nested dicts, by names such as "data.channels"."""
  flat = {}
  for key, value in tree.items():
    if isinstance(value, dict):
      flat.update(flatten(value, f"{prefix}{key}."))
    else:
      flat[f"{prefix}{key}"] = value
  return flat


def read(text: str, kind: type) -> Any:
  """Returns the value that a text stands for, or else the text itself."""
  read = {
    bool: flags.BooleanParser().parse,
    int: int,
    float: float,
    str: str,
    tuple: ast.literal_eval,
  }
  try:
    return read[kind](text)
  except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
    return text


def cast(field: str, value: Any, default: Any) -> Any:
  """Returns the value of a field in the type of its default."""
  kind = type(default)
  is_bool = isinstance(value, _TAKEN[bool])
  if not isinstance(value, _TAKEN[kind]) or is_bool != (kind is bool):
    raise wrong(field, value, _WANTED[kind])
  if kind is tuple:
    return tuple(
      _cast_element(f"{field}[{i}]", element, default)
      for i, element in enumerate(value)
    )
  if kind is int and abs(value) > _LARGEST_INT:
    raise wrong(field, value, "an integer of 64 bits")
  if kind is float and not abs(value) <= _LARGEST_FLOAT:
    if field not in _MAY_BE_INFINITE or value != float("inf"):
      raise wrong(field, value, _WANTED[kind])
  if kind is str and "\0" in value:
    raise wrong(field, value, "a string without a null character")
  return kind(value)


def _cast_element(field: str, value: Any, default: tuple) -> Any:
  """Returns an element of a tuple in the type of its default's elements.

  Where that has none, the element may be of any type that fields have.
  """
  if default:
    return cast(field, value, default[0])
  if isinstance(value, np.generic):
    value = value.item()
  kind = tuple if isinstance(value, list) else type(value)
  return cast(field, value, kind()) if kind in _TAKEN else value


def unknown(
  field: str, value: Any, dataset: str, known: Mapping[str, Any]
) -> UserError:
  """Returns the error of an unknown field, with the one that may be meant.

  Args:
    field: its name.
    value: what it is given.
    dataset: the data set of the config.
    known: the fields that the config has, flat.
  """
  of_group = [name for name in known if name.startswith(f"{field}.")]
  if of_group:
    return wrong(field, value, f"a group of fields, such as {of_group[0]}")
  text = f"the config of {dataset} has no field {shown(field)}"
  remedies = []
  new = MOVED.get(field)
  if new:
    text = f"config.{field} is config.{new} now"
    if any(f"{name}.".startswith(f"{new}.") for name in known):
      return UserError(text)
    field = new
  else:
    # A group is often left out, or another one named.
    by_last_part = {name.rpartition(".")[2]: name for name in known}
    last_part = field.rpartition(".")[2]
    close = difflib.get_close_matches(last_part, by_last_part, 1, cutoff=0.7)
    remedies += [f"did you mean {by_last_part[name]}?" for name in close]
  remedies += _of_kind(field, known)
  if not remedies:
    remedies = [f"experiments/configs/base.py and {dataset}.py list all fields"]
  return UserError(f"{text}; {' '.join(remedies)}")


def _of_kind(field: str, known: Mapping[str, Any]) -> list[str]:
  """What fields there are in the group of a field whose kind says that."""
  group = field
  while group:
    group = group.rpartition(".")[0]
    if f"{group}.kind" in known:
      names = dict.fromkeys(
        name.removeprefix(f"{group}.").partition(".")[0]
        for name in known
        if name.startswith(f"{group}.") and name != f"{group}.kind"
      )
      kind = shown(known[f"{group}.kind"])
      return [f"config.{group} of kind {kind} has {', '.join(names)}"]
  return []
