"""Named variants of a config, found by their names.

`--config=FILE:VARIANT` names one, and `--config=FILE:help` lists them;
`--config.FIELD=VALUE` changes it further.
"""

import difflib
import re

import ml_collections

from experiments.configs import changes
from experiments.configs.variant_table import FAMILIES
from experiments.configs.variant_table import GROUPS
from experiments.configs.variant_table import Variant
from experiments.configs.variant_table import VARIANTS
from experiments.errors import UserError

_WHOLE, _ANY = r"(\d+)", r"(\d+(?:\.\d+)?(?:e-?\d+)?)"
_NUMBERS = {
  "N": _WHOLE,
  "D": _WHOLE,
  "S": _WHOLE,
  "X": _ANY,
}  # in a family's name
_CLOSE = 0.7  # from which likeness on one name may mean another


class UnknownVariantError(UserError):
  """A data set has no variant of that name; `details` lists those it has."""


def apply(
  config: ml_collections.ConfigDict, name: str
) -> ml_collections.ConfigDict:
  """Makes a data set's config that of a variant; returns it.

  Raises:
    UnknownVariantError: if the data set has no such variant.
  """
  config.variant = name
  changes.apply(config, find(config.name, name).changes)
  return config


def find(dataset: str, name: str) -> Variant:
  """Returns the variant of a name.

  Raises:
    UnknownVariantError: if the data set has none.
  """
  if name in names(dataset):
    return VARIANTS[name]
  family, numbers = family_of(name)
  if family:
    return FAMILIES[family].make(*numbers)
  close = _closest(dataset, name)
  if close in FAMILIES:
    close += f", such as {FAMILIES[close].example}"
  meant = f"did you mean {close}? " if close else ""
  error = UnknownVariantError(
    f"unknown variant {name!r} of {dataset}; {meant}--config=FILE:help lists"
    " all"
  )
  error.details = describe(dataset)
  raise error


def names(dataset: str) -> list[str]:
  """Returns the names of a data set's variants, but for those of families."""
  return [
    name
    for name, variant in VARIANTS.items()
    if variant.dataset in ("", dataset)
  ]


def describe(dataset: str) -> str:
  """Returns a list of a data set's variants, by group, each in a line."""
  listed = {
    name: (VARIANTS[name].group, _about(VARIANTS[name]))
    for name in names(dataset)
  }
  for name, family in FAMILIES.items():
    group = find(dataset, family.example).group
    listed[name] = (group, f"{family.about}, such as {family.example}")
  width = max(map(len, listed))
  lines = [f"Variants of {dataset}, for --config=FILE:VARIANT"]
  for group, heading in GROUPS.items():
    lines += ["", heading]
    lines += [
      f"  {name:<{width}}  {about}"
      for name, (of_group, about) in listed.items()
      if of_group == group
    ]
  return "\n".join(lines)


def _about(variant: Variant) -> str:
  """What a list says of a variant, with its change if it has only one."""
  text = variant.about or variant.title
  if len(variant.changes) == 1:
    ((field, value),) = variant.changes.items()
    text += f" ({field}={value})"
  return text


def family_of(name: str) -> tuple[str, tuple[str, ...]]:
  """Returns the family of a variant, "" if it has none, and its numbers."""
  for family in FAMILIES:
    pattern = re.sub("[A-Z]", lambda letter: _NUMBERS[letter[0]], family)
    match = re.fullmatch(pattern, name)
    if match:
      return family, match.groups()
  return "", ()


def _closest(dataset: str, name: str) -> str:
  """The variant or family that a name may mean, "" if there is none.

  Names are compared with those of families without their numbers.
  """

  def likeness(known: str, given: str) -> float:
    return difflib.SequenceMatcher(None, known, given).ratio()

  without_numbers = re.sub(_ANY, "#", name)
  found = {known: likeness(known, name) for known in names(dataset)}
  for family in FAMILIES:
    known = re.sub("[A-Z]", "#", family)
    found[family] = likeness(known, without_numbers)
  best = max(found, key=found.get)
  return best if found[best] >= _CLOSE else ""
