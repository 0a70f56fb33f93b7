"""Exact search on the line, for codewords of width 1.

Shapes: T points, N codewords.
"""

import flax
import jax
import jax.numpy as jnp


@flax.struct.dataclass
class SortedCodewords:
  """Codewords in ascending order.

  Attributes:
    values: float32 `[N]`.
    order: the index of each value's codeword, int32 `[N]`; of equal codewords
      the lowest index comes first.
  """

  values: jax.Array
  order: jax.Array

  @property
  def width(self) -> int:
    return 1


@flax.struct.dataclass
class Neighbours:
  """Codewords on both sides of points.

  Attributes:
    below: the highest codeword below each point, float32 `[T]`; -inf where
      there is none.
    below_index: the lowest index of the codewords that equal `below`, int32
      `[T]`.
    above: the lowest codeword that is not below each point, float32 `[T]`; inf
      where there is none.
    above_index: the lowest index of the codewords that equal `above`, int32
      `[T]`.
  """

  below: jax.Array
  below_index: jax.Array
  above: jax.Array
  above_index: jax.Array


def build(codewords: jax.Array) -> SortedCodewords:
  """Returns codewords float32 `[N, 1]` sorted; none of them may be NaN."""
  order = jnp.argsort(codewords[:, 0]).astype(jnp.int32)
  return SortedCodewords(codewords[order, 0], order)


def search(points: jax.Array, codewords: SortedCodewords) -> jax.Array:
  """Returns the indices int32 `[T]` of the codewords nearest to points.

  Args:
    points: finite float32 `[T, 1]`.
    codewords: what `build` returns.
  """
  x = points[:, 0]
  # The place of the first codeword that is not below x, and the first place of
  # the codewords that equal the last one below x.
  above = jnp.searchsorted(codewords.values, x)
  highest = codewords.values[jnp.maximum(above - 1, 0)]
  below = jnp.searchsorted(codewords.values, highest)
  last = len(codewords.values) - 1
  found = Neighbours(
    below=jnp.where(above > 0, highest, -jnp.inf),
    below_index=codewords.order[below],
    above=codewords.values.at[above].get(mode="fill", fill_value=jnp.inf),
    above_index=codewords.order[jnp.minimum(above, last)],
  )
  return nearer(x, found)


def search_unsorted(points: jax.Array, codewords: jax.Array) -> jax.Array:
  """Returns the indices of the codewords nearest to points.

  It sorts the points instead of the codewords, which needs no index.

  Args:
    points: finite float32 `[T, 1]`.
    codewords: float32 `[N, 1]` in any order, none of them NaN.

  Returns:
    int32 `[T]`.
  """
  order = jnp.argsort(points[:, 0])
  values = points[order, 0]
  nearest = nearer(values, _neighbours(values, codewords))
  return jnp.zeros(len(points), jnp.int32).at[order].set(nearest)


def neighbours(points: jax.Array, codewords: jax.Array) -> Neighbours:
  """Returns the codewords on both sides of points.

  Args:
    points: finite float32 `[T, 1]`.
    codewords: float32 `[N, 1]` in any order, none of them NaN.

  Returns:
    The neighbours of each point, with index N where there is none.
  """
  order = jnp.argsort(points[:, 0])
  found = _neighbours(points[order, 0], codewords)
  return jax.tree.map(lambda x: jnp.zeros_like(x).at[order].set(x), found)


def _neighbours(values: jax.Array, codewords: jax.Array) -> Neighbours:
  """Returns the neighbours of points `[T]` in ascending order.

  The points cut the line into T + 1 intervals, and interval i ends below point
  i.  Of the codewords in an interval only the lowest and the highest can be
  nearest to a point.  The neighbour below a point is therefore the highest
  codeword of the last filled interval before the point.  The neighbour above it
  is the lowest codeword of the first filled interval after the point.
  """
  num_points, num_codewords = len(values), len(codewords)
  numbers = codewords[:, 0]
  # A codeword that equals a point is in the interval after it.
  interval = jnp.searchsorted(values, numbers, side="right")

  def extremes(reduce):
    extreme = reduce(numbers, interval, num_points + 1)
    # The lowest index of equal codewords.
    is_extreme = numbers == extreme[interval]
    index = jax.ops.segment_min(
      jnp.where(
        is_extreme, jnp.arange(num_codewords, dtype=jnp.int32), num_codewords
      ),
      interval,
      num_points + 1,
    )
    return extreme, index

  lowest, lowest_index = extremes(jax.ops.segment_min)
  highest, highest_index = extremes(jax.ops.segment_max)
  intervals = jnp.arange(num_points + 1, dtype=jnp.int32)
  is_filled = lowest_index < num_codewords
  before = jax.lax.cummax(jnp.where(is_filled, intervals, -1))[:-1]
  after = jax.lax.cummin(
    jnp.where(is_filled, intervals, num_points + 1), reverse=True
  )[1:]
  return Neighbours(
    below=jnp.where(before < 0, -jnp.inf, highest[before]),
    below_index=jnp.where(before < 0, num_codewords, highest_index[before]),
    above=lowest.at[after].get(mode="fill", fill_value=jnp.inf),
    above_index=lowest_index.at[after].get(
      mode="fill", fill_value=num_codewords
    ),
  )


def nearer(x: jax.Array, found: Neighbours) -> jax.Array:
  """Returns the index of the nearer neighbour; of equally near ones the lower.

  Args:
    x: the points, finite float32 `[T]`.
    found: the neighbours of each point.

  Returns:
    int32 `[T]`.
  """
  to_below, to_above = x - found.below, found.above - x
  nearer = jnp.where(to_below < to_above, found.below_index, found.above_index)
  lower = jnp.minimum(found.below_index, found.above_index)
  return jnp.where(to_below == to_above, lower, nearer)
