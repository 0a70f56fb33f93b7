"""Exact search that compares every point with every codeword.

Shapes: T points, N codewords, D their width, L lanes.

The codewords are cut into lanes of neighbours.  A scan keeps for every point
and lane only the smallest distance, no index: elementwise work that compilers
vectorize, as they do not an argmin.  Then the point's nearest lane alone is
looked through once more.

`search_blocked` computes distances as sums of squared differences, which loses
nothing.  `search_screened` expands them to |c|^2 / 2 - z.c, which takes half
the work, and leaves the products of wide codewords to a matrix unit, but
cancels: so it bounds its own error, and points that this leaves in doubt are
searched by differences.
"""

from collections.abc import Callable
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp

from adq_jax.chunks import for_each_chunk

_LANES = 128
_UNROLLED_WIDTH = 64  # numbers in the codewords that a lane takes in one step
_ADDED_SQUARES = 16  # added in one go; keeps the rounding of wide sums low
_PRODUCT_WIDTH = 32  # D from which a matrix product pays
_PRODUCT_CODEWORDS = 4  # codewords of a lane in one product
_LANE_WIDTH = 512  # numbers of a lane that are looked through in one go
_DOUBTFUL = 32  # points searched once more in one go


def search_dense(points: jax.Array, codewords: jax.Array) -> jax.Array:
  """Compares `[N, T]` distances at once; the reference of the tests."""
  squares = _squared_distances(points.T, codewords)
  return jnp.argmin(squares, axis=0).astype(jnp.int32)


@jax.jit  # traced once for a shape; other searches call it too
def search_blocked(points: jax.Array, codewords: jax.Array) -> jax.Array:
  """Scans the codewords, holding T x 128 distances at a time.

  Args:
    points: finite float32 `[T, D]`.
    codewords: float32 `[N, D]`, none of them NaN.

  Returns:
    int32 `[T]`.
  """
  lanes = _lanes(codewords, _UNROLLED_WIDTH // codewords.shape[1])
  points_t = _transposed(points)

  def distances(block):
    for codewords in block:
      yield _squared_distances(points_t, codewords)

  smallest = _smallest(distances, points_t, lanes)[:, : len(points)]
  nearest = _first(smallest == smallest.min(axis=0, keepdims=True))
  return _search_lane(points, lanes, nearest, len(codewords))


def search_screened(points: jax.Array, codewords: jax.Array) -> jax.Array:
  """Searches by matrix products, and decides close cases by differences.

  Matrix products are fast, but they lose precision.  In float32 a score
  |c|^2 / 2 - z.c is off by no more than e (|z|^2 + |c|^2), with
  e = 2 (D + 5) 2^-24.  Subtracting e |c|^2 from each score beforehand makes it
  a lower bound, up to e |z|^2, so that a distant codeword cannot raise doubt.
  The upper bound of the nearest codeword's score adds 2 e |c|^2 again, where
  |c| is at most |z| plus its distance.
  """
  num_points, dim = points.shape
  is_usable = jnp.isfinite(jnp.square(codewords).sum(axis=1, keepdims=True))
  usable = jnp.where(is_usable, codewords, 0.0)
  # Products cancel less around the middle.  It is a codeword, since the mean
  # itself may be rounded in one way where it is taken off points, and in
  # another where it is taken off codewords.
  num_usable = jnp.maximum(is_usable.sum(dtype=jnp.int32), 1)
  mean = usable.sum(axis=0, keepdims=True) / num_usable.astype(jnp.float32)
  centre = usable[jnp.argmin(jnp.square(usable - mean).sum(axis=1))][None]
  centred = jnp.where(is_usable, codewords - centre, 0.0)
  error = 2 * (dim + 5) * 2.0**-24
  half = jnp.square(centred).sum(axis=1, keepdims=True) * (0.5 - error)
  half = jnp.where(is_usable, half, jnp.inf)
  is_wide = dim >= _PRODUCT_WIDTH
  in_one_go = _PRODUCT_CODEWORDS if is_wide else _UNROLLED_WIDTH // dim
  points_t = _transposed(points - centre)

  def scores(block):
    codewords, half = block
    if is_wide:
      flat = codewords.reshape(-1, dim)
      products = jax.lax.dot(
        flat, points_t, precision=jax.lax.Precision.HIGHEST
      ).reshape(*codewords.shape[:2], -1)
      for i in range(len(codewords)):
        yield half[i] - products[i]
      return
    for i in range(len(codewords)):
      score = half[i]
      for d in range(dim):
        score -= codewords[i][:, d, None] * points_t[d][None]
      yield score

  lanes = (_lanes(centred, in_one_go, fill=0.0), _lanes(half, in_one_go))
  smallest = _smallest(scores, points_t, lanes)[:, :num_points]
  best = smallest.min(axis=0)
  norm = jnp.square(points_t[:, :num_points]).sum(axis=0)
  norm_of_nearest = 2 * (norm + jnp.maximum(2 * best + norm, 0.0))
  limit = best + 2 * error * (norm + norm_of_nearest) + 1e-37
  may_have_it = smallest <= limit[None]
  is_sure = (may_have_it.sum(axis=0) == 1) & jnp.isfinite(limit)
  indices = _search_lane(
    points, _lanes(codewords, in_one_go), _first(may_have_it), len(codewords)
  )
  return search_doubtful(points, codewords, indices, ~is_sure)


def search_doubtful(
  points: jax.Array,
  codewords: jax.Array,
  indices: jax.Array,
  is_doubtful: jax.Array,
) -> jax.Array:
  """Returns indices `[T]` with those of doubtful points found by the scan."""

  def search(indices, which):
    some = points.at[which].get(mode="clip")
    found = search_blocked(some, codewords)
    return indices.at[which].set(found, mode="drop")

  return for_each_chunk(is_doubtful, indices, search, _DOUBTFUL)


def sum_of_squares(
  count: int, difference: Callable[[int], jax.Array]
) -> jax.Array:
  """Adds the squares of differences 0 to count - 1, elementwise.

  The sum is written out: XLA then fuses it with what reads it, which on a CPU
  it does not for a reduction.  Adding chunks instead of single squares bounds
  its relative error by (19 + count / 16) / 4 epsilons.
  """
  total = None
  for start in range(0, count, _ADDED_SQUARES):
    chunk = None
    for d in range(start, min(start + _ADDED_SQUARES, count)):
      square = jnp.square(difference(d))
      chunk = square if chunk is None else chunk + square
    total = chunk if total is None else total + chunk
  return total


def _squared_distances(points_t: jax.Array, codewords: jax.Array) -> jax.Array:
  """Squared distances `[N, T]` of points `[D, T]` and codewords `[N, D]`."""
  return sum_of_squares(
    len(points_t), lambda d: codewords[:, d, None] - points_t[d][None]
  )


def _transposed(points: jax.Array) -> jax.Array:
  """Points on the minor axis, `[D, T]`: whole vectors of them."""
  # Rows of a multiple of 1024 bytes share so few of a CPU's cache sets that
  # the scan takes up to five times as long.
  if len(points) % 256 == 0:
    points = jnp.pad(points, ((0, 16), (0, 0)))
  return points.T


def _lanes(
  codewords: jax.Array, in_one_go: int, fill: float = jnp.inf
) -> jax.Array:
  """Cuts codewords `[N, D]` into lanes `[L, steps, in_one_go, D]`."""
  num_codewords, dim = codewords.shape
  lanes = min(_LANES, num_codewords)
  in_one_go = min(max(in_one_go, 1), -(-num_codewords // lanes))
  steps = -(-num_codewords // (lanes * in_one_go))
  filler = lanes * in_one_go * steps - num_codewords
  filled = jnp.pad(codewords, ((0, filler), (0, 0)), constant_values=fill)
  return filled.reshape(lanes, steps, in_one_go, dim)


def _smallest(
  values: Callable[[Any], Iterable[jax.Array]],
  points_t: jax.Array,
  lanes: Any,
) -> jax.Array:
  """The smallest value `[L, T]` of each lane, for points `[D, T]`.

  Args:
    values: gives `[L, T]` for each codeword of a block `[in_one_go, L, D]`.
    points_t: what they are of.
    lanes: a tree of `_lanes`, which `values` gets the blocks of.
  """

  def step(smallest, block):
    for value in values(block):
      smallest = jnp.minimum(smallest, value)
    return smallest, None

  blocks = jax.tree.map(lambda lane: lane.transpose(1, 2, 0, 3), lanes)
  num_lanes = jax.tree.leaves(lanes)[0].shape[0]
  start = jnp.full((num_lanes, points_t.shape[1]), jnp.inf, jnp.float32)
  return jax.lax.scan(step, start, blocks)[0]


def _first(is_it: jax.Array) -> jax.Array:
  """The first lane `[T]` where `[L, T]` is true; 0 where none is."""
  lanes = jnp.arange(len(is_it), dtype=jnp.int32)[:, None]
  return jnp.where(is_it, lanes, len(is_it)).min(axis=0) % len(is_it)


def _search_lane(
  points: jax.Array, lanes: jax.Array, lane: jax.Array, num_codewords: int
) -> jax.Array:
  """Finds the codeword nearest to each point in the lane `[T]` it has."""
  num_lanes, num_steps, in_one_go, dim = lanes.shape
  in_lane = num_steps * in_one_go
  # As much of a lane at a time as keeps a few hundred numbers a point.
  in_chunk = min(max(_LANE_WIDTH // dim, 1), in_lane)
  num_chunks = -(-in_lane // in_chunk)
  rows = jnp.pad(
    lanes.reshape(num_lanes, in_lane, dim),
    ((0, 0), (0, num_chunks * in_chunk - in_lane), (0, 0)),
    constant_values=jnp.inf,
  ).reshape(num_lanes * num_chunks, in_chunk, dim)
  rows = rows.transpose(0, 2, 1).reshape(len(rows), -1)

  def search(best, chunk):
    distance, index = best
    codewords = rows[lane * num_chunks + chunk]
    codewords = codewords.reshape(len(points), dim, in_chunk)
    squares = sum_of_squares(
      dim, lambda d: codewords[:, d] - points[:, d, None]
    )
    nearest = jnp.argmin(squares, axis=1).astype(jnp.int32)
    smallest = squares.min(axis=1)
    is_better = smallest < distance
    index = jnp.where(is_better, chunk * in_chunk + nearest, index)
    return (jnp.where(is_better, smallest, distance), index), None

  start = (
    jnp.full(len(points), jnp.inf, jnp.float32),
    jnp.zeros(len(points), jnp.int32),
  )
  chunks = jnp.arange(num_chunks, dtype=jnp.int32)
  (_, index), _ = jax.lax.scan(search, start, chunks)
  return jnp.minimum(lane * in_lane + index, num_codewords - 1)
