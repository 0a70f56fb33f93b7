"""Exact search that compares every point with every codeword.

Shapes: T points, N codewords, D their width, L lanes.

The codewords are cut into lanes of neighbours.  A scan keeps the smallest
distance of every point in every lane, and no index.  Compilers vectorize such
elementwise work, but not an argmin.  The scan then looks through the nearest
lane of each point once more, for the index.

`search_blocked` computes distances as sums of squared differences, which loses
no precision.  `search_screened` expands them to |c|^2 / 2 - z.c.  This takes
half the work, and a matrix unit can compute the products of wide codewords, but
it cancels digits.  So it bounds its own error, and `search_blocked` decides for
the points that the bound leaves in doubt.

A search may be given a penalty for each codeword.  Then it looks for the
smallest sum of squared distance and penalty, and "distance" stands for that.
"""

from collections.abc import Callable
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp

from adq_jax.chunks import for_each_chunk

_LANES = 128
_UNROLLED_WIDTH = 64  # numbers of the codewords of a lane in one step
_ADDED_SQUARES = 16  # of one partial sum; keeps the rounding of wide sums low
_PRODUCT_WIDTH = 32  # the D from which a matrix product pays
_PRODUCT_CODEWORDS = 4  # codewords of a lane in one product
_LANE_WIDTH = 512  # numbers of a lane that are compared together
_DOUBTFUL = 32  # points that are searched once more together
_BLOCK = 1024  # codewords that these are compared with in one step


def search_dense(
  points: jax.Array, codewords: jax.Array, penalty: jax.Array | None = None
) -> jax.Array:
  """Compares all `[N, T]` distances at once; the reference of the tests.

  Args:
    points: finite float32 `[T, D]`.
    codewords: float32 `[N, D]`, none of them NaN.
    penalty: float32 `[N]`, 0 or more; None: nothing is added.

  Returns:
    int32 `[T]`.
  """
  squares = _squared_distances(points.T, codewords, penalty)
  return jnp.argmin(squares, axis=0).astype(jnp.int32)


@jax.jit  # traced once for a shape, since other searches call it too
def search_blocked(
  points: jax.Array, codewords: jax.Array, penalty: jax.Array | None = None
) -> jax.Array:
  """Scans the codewords, holding T x 128 distances at a time.

  Args:
    points: finite float32 `[T, D]`.
    codewords: float32 `[N, D]`, none of them NaN.
    penalty: float32 `[N]`, 0 or more; None: nothing is added.

  Returns:
    int32 `[T]`.
  """
  in_one_go = _UNROLLED_WIDTH // codewords.shape[1]
  lanes = _all_lanes(codewords, penalty, in_one_go)
  points_t = _transposed(points)

  def distances(block):
    codewords, penalties = block
    if penalties is None:
      for own in codewords:
        yield _squared_distances(points_t, own, None)
      return
    for own, penalty in zip(codewords, penalties[..., 0], strict=True):
      yield _squared_distances(points_t, own, penalty)

  smallest = _smallest(distances, points_t, lanes)[:, : len(points)]
  nearest = _first(smallest == smallest.min(axis=0, keepdims=True))
  return _search_lane(points, lanes, nearest, len(codewords))


def search_screened(
  points: jax.Array, codewords: jax.Array, penalty: jax.Array | None = None
) -> jax.Array:
  """Searches by matrix products, and decides close cases by differences.

  Matrix products are fast, but they lose precision.  In float32 a score
  |c|^2 / 2 - z.c is off by no more than e (|z|^2 + |c|^2), with
  e = 2 (D + 5) 2^-24.  Subtracting e |c|^2 from each score beforehand makes it
  a lower bound (up to e |z|^2), so a distant codeword cannot raise doubt.  The
  upper bound for the nearest codeword adds 2 e |c|^2 back, where |c| is at most
  |z| plus its distance.  With penalties p the same bounds hold for
  (|c|^2 + p) / 2 and |c|^2 + p in place of |c|^2 / 2 and |c|^2.

  Args:
    points: finite float32 `[T, D]`.
    codewords: float32 `[N, D]`, none of them NaN.
    penalty: float32 `[N]`, 0 or more; None: nothing is added.

  Returns:
    int32 `[T]`.
  """
  num_points, dim = points.shape
  is_usable = jnp.isfinite(jnp.square(codewords).sum(axis=1, keepdims=True))
  usable = jnp.where(is_usable, codewords, 0.0)
  # Products cancel fewer digits around the middle.  The middle is a codeword,
  # since the mean itself may round in one way where it is subtracted from
  # points, and in another where it is subtracted from codewords.
  num_usable = jnp.maximum(is_usable.sum(dtype=jnp.int32), 1)
  mean = usable.sum(axis=0, keepdims=True) / num_usable.astype(jnp.float32)
  centre = usable[jnp.argmin(jnp.square(usable - mean).sum(axis=1))][None]
  centred = jnp.where(is_usable, codewords - centre, 0.0)
  error = 2 * (dim + 5) * 2.0**-24
  half = jnp.square(centred).sum(axis=1, keepdims=True) * (0.5 - error)
  if penalty is not None:
    half += penalty[:, None] * (0.5 - error)
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
  distance = jnp.maximum(2 * best + norm, 0.0)
  norm_of_nearest = 2 * (norm + distance)
  if penalty is not None:
    norm_of_nearest += distance  # of which the penalty is a part
  limit = best + 2 * error * (norm + norm_of_nearest) + 1e-37
  may_have_it = smallest <= limit[None]
  is_sure = (may_have_it.sum(axis=0) == 1) & jnp.isfinite(limit)
  indices = _search_lane(
    points,
    _all_lanes(codewords, penalty, in_one_go),
    _first(may_have_it),
    len(codewords),
  )
  return search_doubtful(points, codewords, indices, ~is_sure, penalty)


def search_doubtful(
  points: jax.Array,
  codewords: jax.Array,
  indices: jax.Array,
  is_doubtful: jax.Array,
  penalty: jax.Array | None = None,
) -> jax.Array:
  """Returns indices, where the scan decides for doubtful points.

  Args:
    points: finite float32 `[T, D]`.
    codewords: float32 `[N, D]`, none of them NaN.
    indices: int32 `[T]`.
    is_doubtful: the points to search once more, bool `[T]`.
    penalty: float32 `[N]`, 0 or more; None: nothing is added.

  Returns:
    int32 `[T]`.
  """

  def search(indices, which):
    doubtful = points.at[which].get(mode="clip")
    found = _search_few(doubtful, codewords, penalty)
    return indices.at[which].set(found, mode="drop")

  return for_each_chunk(is_doubtful, indices, search, _DOUBTFUL)


def _search_few(
  points: jax.Array, codewords: jax.Array, penalty: jax.Array | None
) -> jax.Array:
  """Compares few points with a block of codewords at a time.

  Doubt is rare.  A program that compiles fast is therefore worth more than one
  that runs as fast as `search_blocked`.

  Args:
    points: finite float32 `[T, D]`.
    codewords: float32 `[N, D]`, none of them NaN.
    penalty: float32 `[N]`, 0 or more; None: nothing is added.

  Returns:
    int32 `[T]`, the lowest index of equally near codewords.
  """
  num_codewords, dim = codewords.shape
  in_block = min(_BLOCK, num_codewords)
  num_blocks = -(-num_codewords // in_block)
  filler = num_blocks * in_block - num_codewords
  filled = jnp.pad(codewords, ((0, filler), (0, 0)), constant_values=jnp.inf)
  points_t = points.T

  def search(numbered):
    start, block, penalty = numbered
    squares = _squared_distances(points_t, block, penalty)
    smallest = squares.min(axis=0)
    return smallest, start + _first(squares == smallest[None])

  starts = in_block * jnp.arange(num_blocks, dtype=jnp.int32)
  blocks = filled.reshape(num_blocks, in_block, dim)
  penalties = None
  if penalty is not None:
    penalties = jnp.pad(penalty, (0, filler)).reshape(num_blocks, in_block)
  return _nearest_of_parts(search, (starts, blocks, penalties), len(points))


def _nearest_of_parts(
  search: Callable[[Any], tuple[jax.Array, jax.Array]],
  parts: Any,
  num_points: int,
) -> jax.Array:
  """Searches one part of the codewords after another.

  Args:
    search: returns the distance float32 `[T]` of the nearest codeword of a
      part, and its index int32 `[T]`.
    parts: a tree of arrays, whose first axis is that of the parts.
    num_points: T.

  Returns:
    int32 `[T]`, the index in the first part that has the smallest distance; 0
    where all distances are infinite.
  """

  def step(best, part):
    distance, index = best
    smallest, nearest = search(part)
    is_better = smallest < distance
    index = jnp.where(is_better, nearest, index)
    return (jnp.where(is_better, smallest, distance), index), None

  best = (
    jnp.full(num_points, jnp.inf, jnp.float32),
    jnp.zeros(num_points, jnp.int32),
  )
  (_, index), _ = jax.lax.scan(step, best, parts)
  return index


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


def _squared_distances(
  points_t: jax.Array, codewords: jax.Array, penalty: jax.Array | None
) -> jax.Array:
  """Returns squared distances `[N, T]` from points `[D, T]` to codewords."""
  squares = sum_of_squares(
    len(points_t), lambda d: codewords[:, d, None] - points_t[d][None]
  )
  return squares if penalty is None else squares + penalty[:, None]


def _transposed(points: jax.Array) -> jax.Array:
  """Returns points on the minor axis, `[D, T]`, which vectorizes over them."""
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


def _all_lanes(
  codewords: jax.Array, penalty: jax.Array | None, in_one_go: int
) -> tuple[jax.Array, jax.Array | None]:
  """Cuts codewords into lanes, and their penalties, if there are any, alike."""
  penalties = None if penalty is None else _lanes(penalty[:, None], in_one_go)
  return _lanes(codewords, in_one_go), penalties


def _smallest(
  values: Callable[[Any], Iterable[jax.Array]],
  points_t: jax.Array,
  lanes: Any,
) -> jax.Array:
  """Returns the smallest value `[L, T]` of each lane, for points `[D, T]`.

  Args:
    values: yields `[L, T]` for each codeword of a block `[in_one_go, L, D]`.
    points_t: the points.
    lanes: a tree of results of `_lanes`, whose blocks `values` takes.
  """

  def step(smallest, block):
    for value in values(block):
      smallest = jnp.minimum(smallest, value)
    return smallest, None

  blocks = jax.tree.map(lambda lane: lane.transpose(1, 2, 0, 3), lanes)
  num_lanes = jax.tree.leaves(lanes)[0].shape[0]
  start = jnp.full((num_lanes, points_t.shape[1]), jnp.inf, jnp.float32)
  return jax.lax.scan(step, start, blocks)[0]


def _first(is_match: jax.Array) -> jax.Array:
  """Returns the first lane `[T]` where `[L, T]` is true; 0 where none is."""
  lanes = jnp.arange(len(is_match), dtype=jnp.int32)[:, None]
  return jnp.where(is_match, lanes, len(is_match)).min(axis=0) % len(is_match)


def _search_lane(
  points: jax.Array,
  all_lanes: tuple[jax.Array, jax.Array | None],
  lane: jax.Array,
  num_codewords: int,
) -> jax.Array:
  """Finds the codeword nearest to each point within the point's lane `[T]`."""
  lanes, penalties = all_lanes
  num_lanes, num_steps, in_one_go, dim = lanes.shape
  in_lane = num_steps * in_one_go
  # A chunk of a lane has a few hundred numbers for each point.
  in_chunk = min(max(_LANE_WIDTH // dim, 1), in_lane)
  num_chunks = -(-in_lane // in_chunk)

  def as_rows(lanes: jax.Array) -> jax.Array:
    width = lanes.shape[-1]
    rows = jnp.pad(
      lanes.reshape(num_lanes, in_lane, width),
      ((0, 0), (0, num_chunks * in_chunk - in_lane), (0, 0)),
      constant_values=jnp.inf,
    ).reshape(num_lanes * num_chunks, in_chunk, width)
    return rows.transpose(0, 2, 1).reshape(len(rows), -1)

  rows = as_rows(lanes)
  rows_of_penalties = None if penalties is None else as_rows(penalties)

  def search(chunk):
    codewords = rows[lane * num_chunks + chunk]
    codewords = codewords.reshape(len(points), dim, in_chunk)
    squares = sum_of_squares(
      dim, lambda d: codewords[:, d] - points[:, d, None]
    )
    if rows_of_penalties is not None:
      squares += rows_of_penalties[lane * num_chunks + chunk]
    nearest = jnp.argmin(squares, axis=1).astype(jnp.int32)
    return squares.min(axis=1), chunk * in_chunk + nearest

  chunks = jnp.arange(num_chunks, dtype=jnp.int32)
  index = _nearest_of_parts(search, chunks, len(points))
  return jnp.minimum(lane * in_lane + index, num_codewords - 1)
