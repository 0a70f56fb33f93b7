"""Named variants of a config, found by their names.

`--config=FILE:VARIANT` names one; `--config.FIELD=VALUE` changes it further.
"""

import re

import ml_collections

from experiments.configs.variant_table import FAMILIES
from experiments.configs.variant_table import Variant
from experiments.configs.variant_table import VARIANTS
from experiments.errors import UserError

_WHOLE, _ANY = r"(\d+)", r"(\d+(?:\.\d+)?(?:e-?\d+)?)"
_NUMBERS = {"N": _WHOLE, "D": _WHOLE, "X": _ANY}  # in a family's name


def apply(
  config: ml_collections.ConfigDict, name: str
) -> ml_collections.ConfigDict:
  """Makes a data set's config that of a variant; returns it.

  Raises:
    UserError: if the data set has no such variant.
  """
  config.variant = name
  config.update_from_flattened_dict(find(config.name, name).changes)
  return config


def find(dataset: str, name: str) -> Variant:
  """Returns the variant of a name.

  Raises:
    UserError: if the data set has none.
  """
  if name in names(dataset):
    return VARIANTS[name]
  family, numbers = _family(name)
  if family:
    return FAMILIES[family].make(*numbers)
  known = ", ".join([*names(dataset), *FAMILIES])
  raise UserError(f"unknown variant {name!r} of {dataset}; known are {known}")


def names(dataset: str) -> list[str]:
  """Returns the names of a data set's variants, but for those of families."""
  return [
    name
    for name, variant in VARIANTS.items()
    if variant.dataset in ("", dataset)
  ]


def _family(name: str) -> tuple[str, tuple[str, ...]]:
  """The family that a variant is of, "" if of none, and its numbers."""
  for family in FAMILIES:
    pattern = re.sub("[A-Z]", lambda letter: _NUMBERS[letter[0]], family)
    match = re.fullmatch(pattern, name)
    if match:
      return family, match.groups()
  return "", ()
