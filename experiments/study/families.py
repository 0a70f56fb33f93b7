"""Families: models of one kind that take more or fewer bits."""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses

from experiments.configs import variants
from experiments.study import bd_rate
from experiments.study import curves
from experiments.study import series as series_lib
from experiments.study.bd_rate import Comparison
from experiments.study.curves import Point
from experiments.study.series import Series
from experiments.study.trials import Runs

_FIRST_PRICED = 7  # the number of the first one's colour


@dataclasses.dataclass(frozen=True)
class Family:
  """The variants of a series, or a variant with a curve of its own.

  Attributes:
    series: how it is shown.
    runs: its finished runs.
    references: the finished runs of the fixed codebooks that were trained in
      the same way, by rising bits.
    points: its points, by the keys of `curves.RATES` and by variant.
    comparisons: of all its points with those of its references, by the keys of
      `curves.RATES`.
  """

  series: Series
  runs: Runs
  references: Runs
  points: Mapping[str, Mapping[str, Sequence[Point]]]
  comparisons: Mapping[str, Comparison]


def find(ended: Runs) -> list[Family]:
  """Returns the families that have runs.

  Args:
    ended: the finished runs of each variant that has any.
  """
  points = {
    rate: {name: curves.points(trials, rate) for name, trials in ended.items()}
    for rate in curves.RATES
  }
  return [
    _family(ended, points, series, names)
    for series, names in _members(ended)
    if names
  ]


def _members(ended: Runs) -> list[tuple[Series, list[str]]]:
  """Returns the series, and which variants are in each."""
  of_each = {
    name: series_lib.of(variants.find(trials[0].dataset, name))
    for name, trials in ended.items()
  }
  priced = [name for name in ended if curves.is_priced(ended[name])]
  members = [
    (one, [v for v in ended if v not in priced and of_each[v] is one])
    for one in series_lib.SERIES
  ]
  for i, name in enumerate(priced):
    # A line of its own, trained in the same way as the series that it is from.
    line = Series(
      variants.find(ended[name][0].dataset, name).title,
      _FIRST_PRICED + i,
      (),
      joined="-",
      has_texts=False,
      reference=of_each[name].reference,
    )
    members.append((line, [name]))
  return members


def _family(
  ended: Runs,
  points: Mapping[str, Mapping[str, Sequence[Point]]],
  series: Series,
  names: Sequence[str],
) -> Family:
  """Returns the family of some variants, given the points of all."""
  references = [
    name
    for name, trials in ended.items()
    if variants.find(trials[0].dataset, name).group == series.reference
  ]
  of_first_rate = points[next(iter(curves.RATES))]
  references.sort(key=lambda name: [p.rate for p in of_first_rate[name]])
  own = {
    rate: {name: of_rate[name] for name in names if of_rate[name]}
    for rate, of_rate in points.items()
  }
  return Family(
    series,
    {name: ended[name] for name in names},
    {name: ended[name] for name in references},
    own,
    {
      rate: bd_rate.compare(
        [p for name in references for p in of_rate[name]],
        [p for of_one in own[rate].values() for p in of_one],
      )
      for rate, of_rate in points.items()
    },
  )
