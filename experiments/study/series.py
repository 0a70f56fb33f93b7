"""Variants that figures show alike."""

import dataclasses

from experiments.configs.variant_table import Variant


@dataclasses.dataclass(frozen=True)
class Series:
  """Variants that look alike.

  Attributes:
    label: their name in the legend.
    number: the number of their colour and marker.
    groups: the groups of variants in it.
    joined: the style of a line through the points, "" for none.
    has_texts: whether each point is named.
    reference: the group of the fixed codebooks that were trained in the same
      way; "" where there are none.
  """

  label: str
  number: int
  groups: tuple[str, ...]
  joined: str = ""
  has_texts: bool = True
  reference: str = ""


_OTHERS = Series("adaptive, other variants", 3, ())  # of all other groups
SERIES = (
  Series("fixed", 0, ("fixed",)),
  Series("adaptive", 5, ("adaptive",), reference="fixed"),
  Series("fixed, improved", 4, ("improved_fixed",), ":"),
  Series(
    "adaptive, improved, by price of bits",
    2,
    ("improved",),
    "-",
    reference="improved_fixed",
  ),
  Series("priced", 1, ("priced",), reference="improved_fixed"),
  Series("fixed, other variants", 6, ("fixed_changed",)),
  # There are many, near each other; the table has their names.
  Series("adaptive, variants of table 3", 7, ("table_3",), has_texts=False),
  _OTHERS,
)
"""In the order of a legend."""


def of(variant: Variant) -> Series:
  """Returns the series that a variant is in."""
  for one in SERIES:
    if variant.group in one.groups:
      return one
  return _OTHERS
