"""Exact search for the nearest codeword.

Shapes: T points, N codewords, D their width, B codewords of one block.

Distances are sums of squared differences.  The expanded form, |c|^2 - 2 z.c,
would leave the products to a matrix unit, but it cancels: the smaller the
distances are beside the norms, the more often float32 then picks a wrong
codeword, and a trained codebook lies close to its points.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from adq_jax import checks

_LANES = 128  # codewords compared side by side, each with all points
_UNROLLED_WIDTH = 64  # numbers in the codewords that a lane takes in one step
_SORTED_FROM = 4096  # codewords; below, the scan is as fast
_CHUNK_SIZE = 16  # squares added in one go; keeps the rounding of wide sums low


def nearest_codes(
  z: jax.Array, codebook: jax.Array, *, method: str = "auto"
) -> jax.Array:
  """Returns the index of the codeword nearest to every point (eq. 2).

  Exact: the Euclidean distance to the chosen codeword exceeds the smallest by
  at most 8 float32 epsilons of (|z| + |c|), however close the codewords lie
  and however far from the origin; the lowest index wins a tie.  Norms may
  reach 1e18: the squares of larger ones leave float32.  No gradient flows.

  Args:
    z: points, floating `[..., D]`.  A point with NaN gets index 0.
    codebook: codewords, floating `[N, D]`.  One with NaN is infinitely far.
    method: `"blocked"`, a scan over blocks of codewords that holds T x 128
      distances at a time; `"sorted"`, for D = 1, which sorts the points and
      computes two distances for each, in O((T + N) log T); `"dense"`, the
      tests' reference, which holds T x N; `"auto"` chooses: on a CPU `"sorted"`
      for D = 1 and 4,096 codewords or more, else `"blocked"`.

  Returns:
    int32 `[...]`, each in [0, N).

  Raises:
    ValueError: if a shape or dtype does not fit, or the method is unknown or
      not for that D.
  """
  checks.check_floating("z", z, min_rank=1)
  checks.check_floating("codebook", codebook, rank=2)
  if not codebook.size:
    raise ValueError(
      f"codebook has shape {codebook.shape}; it needs at least one codeword"
      " of width 1 or more"
    )
  checks.check_width("z", z, codebook.shape[1], "the codebook's width")
  checks.check_choice("method", method, tuple(_METHODS))
  if method == "sorted" and codebook.shape[1] != 1:
    raise ValueError(
      "method is 'sorted', which is for codewords of width 1; these have width"
      f" {codebook.shape[1]}"
    )
  if not z.size:
    return jnp.zeros(z.shape[:-1], jnp.int32)
  search = _METHODS[method]
  points = jax.lax.stop_gradient(z).astype(jnp.float32)
  points = points.reshape(-1, z.shape[-1])
  codewords = jax.lax.stop_gradient(codebook).astype(jnp.float32)
  # A minimum passes NaN on, so none may reach it: neither as it is, nor as
  # the difference of two infinities.
  is_nan = jnp.isnan(points).any(axis=-1)
  largest = jnp.finfo(jnp.float32).max
  points = jnp.clip(jnp.nan_to_num(points), -largest, largest)
  codewords = jnp.where(jnp.isnan(codewords), jnp.inf, codewords)
  indices = search(points, codewords)
  return jnp.where(is_nan, 0, indices).reshape(z.shape[:-1])


def _search_auto(points: jax.Array, codewords: jax.Array) -> jax.Array:
  num_codes, dim = codewords.shape
  if dim > 1 or num_codes < _SORTED_FROM:
    return _search_blocked(points, codewords)
  # Scattering, which is cheap on a CPU, is what accelerators do worst.
  return jax.lax.platform_dependent(
    points, codewords, cpu=_search_sorted, default=_search_blocked
  )


def _search_dense(points: jax.Array, codewords: jax.Array) -> jax.Array:
  squares = _squared_distances(points.T, codewords)
  return jnp.argmin(squares, axis=0).astype(jnp.int32)


def _search_blocked(points: jax.Array, codewords: jax.Array) -> jax.Array:
  """A scan over blocks of codewords that keeps the best so far.

  The codewords are cut into 128 lanes of neighbours.  A step takes the next few
  of each lane and keeps, for every lane and point, the smallest distance and
  its index: elementwise work that compilers vectorize, as they do not an
  argmin, and where a distance, once computed, is what is compared.
  """
  num_points, (num_codes, dim) = len(points), codewords.shape
  lanes = min(_LANES, num_codes)
  unrolled = min(max(_UNROLLED_WIDTH // dim, 1), -(-num_codes // lanes))
  num_steps = -(-num_codes // (lanes * unrolled))
  # Filled up with codewords that are infinitely far.
  padding = lanes * unrolled * num_steps - num_codes
  codewords = jnp.pad(
    codewords, ((0, padding), (0, 0)), constant_values=jnp.inf
  )
  blocks = codewords.reshape(lanes, num_steps, unrolled, dim)
  blocks = blocks.transpose(1, 2, 0, 3)
  offsets = jnp.arange(num_steps, dtype=jnp.int32) * unrolled
  # Rows of a multiple of 1024 bytes share so few of a CPU's cache sets that
  # the scan takes up to five times as long.
  if num_points % 256 == 0:
    points = jnp.pad(points, ((0, 16), (0, 0)))
  points_t = points.T  # points on the minor axis: whole vectors of them

  def step(best, block):
    smallest, index = best
    rows, offset = block
    for i in range(unrolled):
      squares = _squared_distances(points_t, rows[i])
      is_better = squares < smallest  # the earlier codeword keeps a tie
      smallest = jnp.where(is_better, squares, smallest)
      index = jnp.where(is_better, offset + i, index)
    return (smallest, index), None

  shape = (lanes, len(points))
  start = (jnp.full(shape, jnp.inf, jnp.float32), jnp.zeros(shape, jnp.int32))
  (smallest, index), _ = jax.lax.scan(step, start, (blocks, offsets))
  lane_starts = jnp.arange(lanes, dtype=jnp.int32) * (num_steps * unrolled)
  is_smallest = smallest == smallest.min(axis=0)
  indices = jnp.where(is_smallest, lane_starts[:, None] + index, num_codes)
  return indices.min(axis=0)[:num_points]


def _search_sorted(points: jax.Array, codewords: jax.Array) -> jax.Array:
  """Finds each point's neighbours on both sides, for D = 1.

  The sorted points cut the line into T + 1 intervals; interval i ends below
  point i.  Of the codewords in an interval only the lowest and the highest can
  be nearest to a point.  A point's neighbours are the highest codeword of the
  last interval before it that has any, and the lowest of the first after it.
  """
  num_points, num_codes = len(points), len(codewords)
  order = jnp.argsort(points[:, 0])
  values, codes = points[order, 0], codewords[:, 0]
  # A codeword that equals a point is in the interval after it.
  interval = jnp.searchsorted(values, codes, side="right")

  def extremes(reduce):
    extreme = reduce(codes, interval, num_points + 1)
    # The lowest index of those that are equal.
    is_extreme = codes == extreme[interval]
    index = jax.ops.segment_min(
      jnp.where(is_extreme, jnp.arange(num_codes), num_codes),
      interval,
      num_points + 1,
    )
    return extreme, index

  lowest, lowest_index = extremes(jax.ops.segment_min)
  highest, highest_index = extremes(jax.ops.segment_max)
  intervals = jnp.arange(num_points + 1)
  is_filled = lowest_index < num_codes
  before = jax.lax.cummax(jnp.where(is_filled, intervals, -1))[:-1]
  after = jax.lax.cummin(
    jnp.where(is_filled, intervals, num_points + 1), reverse=True
  )[1:]
  # Where there is none, index N, infinitely far.
  below = jnp.where(before < 0, -jnp.inf, highest[before])
  below_index = jnp.where(before < 0, num_codes, highest_index[before])
  above = lowest.at[after].get(mode="fill", fill_value=jnp.inf)
  above_index = lowest_index.at[after].get(mode="fill", fill_value=num_codes)
  to_below, to_above = values - below, above - values
  indices = jnp.where(to_below < to_above, below_index, above_index)
  is_tie = to_below == to_above
  indices = jnp.where(is_tie, jnp.minimum(below_index, above_index), indices)
  return jnp.zeros(num_points, jnp.int32).at[order].set(indices)


_METHODS: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
  "auto": _search_auto,
  "dense": _search_dense,
  "blocked": _search_blocked,
  "sorted": _search_sorted,
}


def _squared_distances(points_t: jax.Array, codewords: jax.Array) -> jax.Array:
  """Squared distances `[N, T]` of points `[D, T]` and codewords `[N, D]`.

  The sum over D is written out: XLA then fuses it with what reads it, which
  on a CPU it does not for a reduction.  Adding chunks instead of single
  squares bounds the relative error of a distance by (19 + D / 16) / 4 epsilons.
  """
  total = None
  for start in range(0, len(points_t), _CHUNK_SIZE):
    chunk = None
    for d in range(start, min(start + _CHUNK_SIZE, len(points_t))):
      square = jnp.square(codewords[:, d, None] - points_t[d])
      chunk = square if chunk is None else chunk + square
    total = chunk if total is None else total + chunk
  return total
