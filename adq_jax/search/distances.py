"""Squared distances, as a search computes and compares them.

Shapes: T points, N codewords, D their width, K prices of each point.

With penalties, "distance" stands for the sum of both (see
`adq_jax.search.penalty`).
"""

from collections.abc import Callable
import functools
import operator

import jax
import jax.numpy as jnp

_ADDED_SQUARES = 16  # of one partial sum; keeps the rounding of wide sums low


def sum_of_squares(
  count: int, difference: Callable[[int], jax.Array]
) -> jax.Array:
  """Returns the elementwise sum of squares of differences 0 to count - 1.

  The sum is written out, since XLA then fuses it with the operation that reads
  it.  On a CPU it does not fuse a reduction so.  Adding chunks of squares
  instead of single squares bounds the relative error by (19 + count / 16) / 4
  epsilons.

  Args:
    count: the number of differences, 1 or more.
    difference: returns difference d, `[...]`.

  Returns:
    `[...]`.
  """
  total = None
  for start in range(0, count, _ADDED_SQUARES):
    chunk = None
    for d in range(start, min(start + _ADDED_SQUARES, count)):
      square = jnp.square(difference(d))
      chunk = square if chunk is None else chunk + square
    total = chunk if total is None else total + chunk
  return total


def sum_of_products(
  count: int, product: Callable[[int], jax.Array]
) -> jax.Array:
  """Returns the elementwise sum of products 0 to count - 1, written out."""
  return functools.reduce(operator.add, (product(k) for k in range(count)))


def squared_distances(
  points_t: jax.Array,
  codewords: jax.Array,
  penalties: jax.Array | None = None,
  prices_t: jax.Array | None = None,
) -> jax.Array:
  """Returns squared distances from points to codewords, `[N, T]`.

  Args:
    points_t: float32 `[D, T]`.
    codewords: float32 `[N, D]`.
    penalties: float32 `[N, K]`; None: nothing is added.
    prices_t: float32 `[K, T]`, beside penalties.
  """
  squares = sum_of_squares(
    len(points_t), lambda d: codewords[:, d, None] - points_t[d][None]
  )
  if penalties is None:
    return squares
  return squares + sum_of_products(
    len(prices_t), lambda k: penalties[:, k, None] * prices_t[k][None]
  )
