"""Whether two lists of figures have the same order."""

from collections.abc import Sequence

import numpy as np


def correlation(a: Sequence[float], b: Sequence[float]) -> float:
  """Returns Spearman's rank correlation of two lists of equal length.

  It is 1 where both have the same order, -1 where one has the reverse of the
  other's, and about 0 where their orders have nothing to do with each other.
  Equal figures share the mean of their ranks.  NaN if either list has a figure
  that is no number, or is constant.
  """
  a, b = (np.asarray(x, np.float64) for x in (a, b))
  if np.isnan([a, b]).any() or not (np.ptp(a) and np.ptp(b)):
    return float("nan")
  return float(np.corrcoef(_ranks(a), _ranks(b))[0, 1])


def _ranks(x: np.ndarray) -> np.ndarray:
  """Returns how many figures are smaller, and half of those that are equal."""
  smaller = (x[:, None] > x).sum(axis=1)
  return smaller + (x[:, None] == x).sum(axis=1) / 2
