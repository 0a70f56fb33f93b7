"""Whole configs: those that have every field of their data set.

The default config of a data set says which fields these are, and its quantizer
which ones are the quantizer's; there is no second list.
"""

from collections.abc import Mapping
from typing import Any

import ml_collections

from experiments.configs import datasets
from experiments.configs import fields
from experiments.configs import quantizers
from experiments.configs.upgrade import upgrade
from experiments.errors import UserError


def check_types(config: ml_collections.ConfigDict) -> None:
  """Checks that a config has the fields of its data set, of their types.

  Some values of other types are accepted, and converted in `config`: integers
  in fields of floats, NumPy's scalars, and lists.

  Raises:
    UserError: for the first field that is unknown, missing, or of another type.
  """
  given = config.to_dict()
  found = fields.flatten(given)
  if "name" not in found:
    raise _missing("name")
  if not _is_dataset(found["name"]):
    wanted = f"one of {', '.join(datasets.GET_CONFIG)}"
    raise fields.wrong("name", found["name"], wanted)
  default = fields.flatten(_default(found["name"], given))
  for field, value in found.items():
    if field not in default:
      raise fields.unknown(field, value, found["name"], default)
  for field in default:
    if field not in found:
      raise _missing(field)
  cast = {name: fields.cast(name, found[name], default[name]) for name in found}
  for field, value in cast.items():
    if not _is_alike(value, found[field]):
      _replace(config, field, value)


def complete(values: Mapping[str, Any]) -> ml_collections.ConfigDict:
  """Returns the config of nested fields, such as those of a config.json.

  Fields may have the names that they had in an earlier version.  One that is
  not among them has its default.

  Raises:
    UserError: as `check_types`.
  """
  if "name" not in values:
    raise _missing("name")
  values = upgrade(values)
  default = {}
  if _is_dataset(values["name"]):
    default = _default(values["name"], values)
    for name in quantizers.required(default[quantizers.BLOCK]):
      del default[quantizers.BLOCK][name]
  config = ml_collections.ConfigDict(_merged(default, values))
  check_types(config)
  return config


def _default(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
  """Returns all fields of a config, where its quantizer is that of `values`."""
  default = datasets.default_config(name).to_dict()
  block = quantizers.defaults(values.get(quantizers.BLOCK))
  return default | {quantizers.BLOCK: block}


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


def _missing(field: str) -> UserError:
  return UserError(
    f"config.{field} is missing; the get_config of a file of"
    " experiments/configs gives every field"
  )
