"""BD-rate: how many more or fewer bits a curve takes than another.

It is the mean difference of two curves in log rate, over the PSNR that both of
them reach, in percent; below 0 where the second curve takes fewer bits [1].
Both curves are interpolated by PCHIP, as in the common test conditions of video
coding: between two points it is monotone, so few points cannot make it swing.

[1] G. Bjøntegaard, Calculation of average PSNR differences between RD-curves,
VCEG-M33, 2001.
"""

from collections.abc import Sequence
import dataclasses
import math

import bjontegaard

from experiments.study.curves import Point

_FEWEST = 2  # points that PCHIP needs


@dataclasses.dataclass(frozen=True)
class Comparison:
  """A curve beside a reference.

  Attributes:
    percent: the BD-rate; None where there is none.
    psnr: from which PSNR to which it is the mean, in dB; None without one.
    problem: why there is none, in a few words; "" if there is one.
  """

  percent: float | None = None
  psnr: tuple[float, float] | None = None
  problem: str = ""


def compare(reference: Sequence[Point], points: Sequence[Point]) -> Comparison:
  """Compares the lower hulls of two sets of points."""
  hulls = [lower_hull(of) for of in (reference, points)]
  for name, hull in zip(("the reference", "it"), hulls, strict=True):
    if len(hull) < _FEWEST:
      return Comparison(
        problem=f"{name} has {len(hull)} of {_FEWEST} points that a curve needs"
      )
  low = max(hull[0].psnr for hull in hulls)
  high = min(hull[-1].psnr for hull in hulls)
  if low >= high:
    return Comparison(problem="it has no PSNR in common with the reference")
  (rates, psnrs), (other_rates, other_psnrs) = (
    ([point.rate for point in hull], [point.psnr for point in hull])
    for hull in hulls
  )
  percent = bjontegaard.bd_rate(
    rates,
    psnrs,
    other_rates,
    other_psnrs,
    method="pchip",
    require_matching_points=False,
    min_overlap=0,  # the range is told
  )
  return Comparison(float(percent), (low, high))


def lower_hull(points: Sequence[Point]) -> list[Point]:
  """Returns the points on the lower hull of rate and squared error.

  A point above the hull is no better than two others, each of which is used for
  a share of the images: their bits and squared errors have the means of a point
  on the line between them.

  Args:
    points: in any order; those without a rate above 0 or a PSNR are left out.

  Returns:
    Points by rising rate and PSNR.
  """
  usable = [
    point
    for point in points
    if 0 < point.rate < math.inf and math.isfinite(point.psnr)
  ]
  hull = []
  for point in sorted(usable, key=lambda point: (point.rate, -point.psnr)):
    if hull and point.psnr <= hull[-1].psnr:
      continue  # it takes more bits for no smaller error
    while len(hull) > 1 and _slope(*hull[-2:]) >= _slope(hull[-1], point):
      hull.pop()
    hull.append(point)
  return hull


def _slope(a: Point, b: Point) -> float:
  """Returns by how much the error changes with each bit."""
  errors = [10 ** (-point.psnr / 10) for point in (a, b)]
  return (errors[1] - errors[0]) / (b.rate - a.rate)
