"""The contract of `nearest_codes`, checked in float64.

Shapes: T points, N codewords, D their width, K prices of each point.
"""

import numpy as np

EPSILON = np.finfo(np.float32).eps
ALLOWED = 8  # epsilons of |z| + |c|


def excess(z, codebook, indices):
  """How far the choice is beyond the nearest, in the contract's unit."""
  z, codebook = z.astype(np.float64), codebook.astype(np.float64)
  distances = np.linalg.norm(z[:, None] - codebook[None], axis=-1)
  chosen = np.take_along_axis(distances, indices[:, None], axis=1)[:, 0]
  norms = np.linalg.norm(z, axis=-1) + np.linalg.norm(
    codebook[indices], axis=-1
  )
  beyond = chosen - distances.min(axis=1)
  # Both norms may be 0; then the distance is.
  return beyond / np.maximum(EPSILON * norms, np.finfo(np.float64).tiny)


def farther(z, codebook, found, other):
  """Where codes `found` `[T]` are farther than `other`, beyond rounding.

  Only these codewords are looked at, so there may be many others.
  """
  z, chosen = z.astype(np.float64), codebook[found].astype(np.float64)
  distance = np.linalg.norm(z - chosen, axis=1)
  other_distance = np.linalg.norm(z - codebook[other], axis=1)
  norms = np.linalg.norm(z, axis=1) + np.linalg.norm(chosen, axis=1)
  return distance - other_distance > ALLOWED * EPSILON * norms


def check_codes(z, codebook, codes, *, is_exact=False):
  """Checks codes `[T]` of points and codewords that need not be finite.

  Args:
    z: float32 `[T, D]`.
    codebook: float32 `[N, D]`.
    codes: what a search found, `[T]`.
    is_exact: whether distances are, so that codes are those of float64.

  Returns:
    The largest excess, at most `ALLOWED`.

  Raises:
    AssertionError: if the contract is broken.
  """
  assert codes.shape == z.shape[:1], f"the codes have shape {codes.shape}"
  in_range = (codes >= 0) & (codes < len(codebook))
  assert in_range.all(), f"{(~in_range).sum()} codes are out of range"
  of_nan = codes[np.isnan(z).any(axis=1)]
  assert not of_nan.any(), f"{(of_nan != 0).sum()} points of NaN have a code"
  # Without finite numbers the nearest codeword is undefined in float64.
  is_finite = np.isfinite(z).all(axis=1)
  infinite = ~np.isfinite(codebook).all(axis=1)
  if infinite.all() or not is_finite.any():
    return 0.0
  chosen = codes[is_finite]
  far_codebook = np.where(infinite[:, None], np.inf, codebook)
  worst = excess(z[is_finite], far_codebook, chosen).max()
  assert worst <= ALLOWED, f"a codeword is {worst:.3g} epsilons too far"
  first = _first_of_equal(np.nan_to_num(codebook))
  np.testing.assert_array_equal(
    chosen, first[chosen], "not the lowest index of equal codewords"
  )
  if is_exact:
    differences = z[:, None].astype(np.float64) - codebook
    np.testing.assert_array_equal(
      codes, np.square(differences).sum(axis=-1).argmin(axis=1)
    )
  return worst


def _first_of_equal(codebook):
  """Returns the lowest index of the codewords that equal each codeword."""
  _, first, which = np.unique(
    codebook + 0.0,  # no negative zeros
    axis=0,
    return_index=True,
    return_inverse=True,
  )
  return first[which.reshape(-1)]


def sums_of(points, codewords, penalty, price=None):
  """All sums `[T, N]` in float64; an infinite penalty makes one infinite."""
  points, codewords = points.astype(np.float64), codewords.astype(np.float64)
  squares = np.square(points[:, None] - codewords[None]).sum(axis=-1)
  tables = np.atleast_2d(penalty).astype(np.float64)
  prices = np.ones(len(points)) if price is None else price.astype(np.float64)
  finite = np.where(np.isinf(tables), 0, tables)
  sums = squares + prices.reshape(len(points), -1) @ finite
  return np.where(np.isinf(tables).any(axis=0), np.inf, sums)


def check_sums(points, codewords, penalty, codes, price=None):
  """Checks that sums of distance and penalty are smallest but for rounding.

  Args:
    points: float32 `[T, D]`.
    codewords: float32 `[N, D]`.
    penalty: float32 `[N]` or `[K, N]`.
    codes: what a search found, `[T]`.
    price: float32 `[T]` or `[T, K]`; None: 1.

  Raises:
    AssertionError: if one is larger than the contract allows.
  """
  sums = sums_of(points, codewords, penalty, price)
  own = np.take_along_axis(sums, codes[:, None], axis=1)[:, 0]
  smallest = sums.min(axis=1)
  terms = 20 + len(np.atleast_2d(penalty)) + points.shape[1] / 16
  larger = ~(own - smallest <= terms * EPSILON * smallest)
  assert not larger.any(), f"{larger.sum()} sums are not the smallest"
