"""The fields of a config: their names, and the types of their values.

The default config of a data set defines both; there is no second list.  Every
value that a person writes is checked here first, whether it comes from the
command line, a config file or a config.json.
"""

import ast
from collections.abc import Iterable
from collections.abc import Mapping
import difflib
from typing import Any

from absl import flags
import ml_collections
import numpy as np

from experiments.configs import datasets
from experiments.errors import UserError

# The types of values that a field of each type accepts.  A bool is an int to
# Python, but `_cast` tells them apart.
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


def check_types(config: ml_collections.ConfigDict) -> None:
  """Checks that a config has the fields of its data set, of their types.

  Some values of other types are accepted, and converted in `config`: integers
  in fields of floats, NumPy's scalars, and lists.

  Raises:
    UserError: for the first field that is unknown, missing, or of another type.
  """
  found = flatten(config.to_dict())
  if "name" not in found:
    raise _missing("name")
  if not _is_dataset(found["name"]):
    wanted = f"one of {', '.join(datasets.GET_CONFIG)}"
    raise wrong("name", found["name"], wanted)
  default = flatten(datasets.default_config(found["name"]).to_dict())
  for field, value in found.items():
    if field not in default:
      raise _unknown(field, value, found["name"], default)
  for field in default:
    if field not in found:
      raise _missing(field)
  cast = {name: _cast(name, found[name], default[name]) for name in found}
  for field, value in cast.items():
    if not _is_alike(value, found[field]):
      _replace(config, field, value)


def complete(values: Mapping[str, Any]) -> ml_collections.ConfigDict:
  """Returns the config of nested fields, such as those of a config.json.

  A field that is not among them has its default.

  Raises:
    UserError: as `check_types`.
  """
  if "name" not in values:
    raise _missing("name")
  default = {}
  if _is_dataset(values["name"]):
    default = datasets.default_config(values["name"]).to_dict()
  config = ml_collections.ConfigDict(_merged(default, values))
  check_types(config)
  return config


def change(config: ml_collections.ConfigDict, field: str, text: str) -> None:
  """Gives a field the value that a text stands for.

  Args:
    config: one whose types are checked.
    field: its name, such as "data.channels".
    text: its value, as on a command line.

  Raises:
    UserError: if there is no such field, or the value is not of its type.
  """
  current = flatten(config.to_dict())
  if field not in current:
    raise _unknown(field, text, config.name, current)
  value = _cast(field, _read(text, type(current[field])), current[field])
  config.update_from_flattened_dict({field: value})


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


def _is_dataset(name: Any) -> bool:
  return isinstance(name, str) and name in datasets.GET_CONFIG


def _merged(
  default: Mapping[str, Any], values: Mapping[str, Any]
) -> dict[str, Any]:
  """Returns nested dicts of all fields; `values` has the last word."""
  merged = dict(default)
  for key, value in values.items():
    if isinstance(value, dict) and isinstance(merged.get(key), dict):
      value = _merged(merged[key], value)
    merged[key] = value
  return merged


def _read(text: str, kind: type) -> Any:
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


def _cast(field: str, value: Any, default: Any) -> Any:
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
    return _cast(field, value, default[0])
  if isinstance(value, np.generic):
    value = value.item()
  kind = tuple if isinstance(value, list) else type(value)
  return _cast(field, value, kind()) if kind in _TAKEN else value


def _replace(config: ml_collections.ConfigDict, field: str, value: Any) -> None:
  """Gives a field a value of another type; an assignment would keep its own."""
  *groups, name = field.split(".")
  with config.unlocked():
    for group in groups:
      config = config[group]
    del config[name]
    config[name] = value


def _is_alike(value: Any, other: Any) -> bool:
  """Returns whether two values that are equal are of equal types too."""
  if type(value) is tuple and type(other) is tuple:
    return all(map(_is_alike, value, other))
  return type(value) is type(other)


def _unknown(
  field: str, value: Any, dataset: str, known: Iterable[str]
) -> UserError:
  """The error of a field that there is not, with one that may be meant."""
  of_group = [name for name in known if name.startswith(f"{field}.")]
  if of_group:
    return wrong(field, value, f"a group of fields, such as {of_group[0]}")
  # A group is often left out, or another one named.
  by_last_part = {name.rpartition(".")[2]: name for name in known}
  last_part = field.rpartition(".")[2]
  close = difflib.get_close_matches(last_part, by_last_part, 1, cutoff=0.7)
  remedy = f"experiments/configs/base.py and {dataset}.py list all fields"
  if close:
    remedy = f"did you mean {by_last_part[close[0]]}?"
  return UserError(
    f"the config of {dataset} has no field {shown(field)}; {remedy}"
  )


def _missing(field: str) -> UserError:
  return UserError(
    f"config.{field} is missing; the get_config of a file of"
    " experiments/configs gives every field"
  )
