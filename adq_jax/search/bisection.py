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
    order: their indices, int32 `[N]`; of equal values the lowest comes first.
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
    below_index: the lowest index of those that equal it, int32 `[T]`.
    above: the lowest codeword from each point on; inf where there is none.
    above_index: the lowest index of those that equal it.
  """

  below: jax.Array
  below_index: jax.Array
  above: jax.Array
  above_index: jax.Array


def build(codewords: jax.Array) -> SortedCodewords:
  """Sorts codewords float32 `[N, 1]`, none of them NaN."""
  order = jnp.argsort(codewords[:, 0]).astype(jnp.int32)
  return SortedCodewords(codewords[order, 0], order)


def search(points: jax.Array, codewords: SortedCodewords) -> jax.Array:
  """Returns the indices int32 `[T]` of the codewords nearest to points.

  Args:
    points: finite float32 `[T, 1]`.
    codewords: what `build` returns.
  """
  x = points[:, 0]
  # Where the first codeword from x on stands, and the first of those that
  # equal the last one before x.
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
  """Finds the nearest of unsorted codewords `[N, 1]` for each point.

  It sorts the points instead of the codewords.
  """
  order = jnp.argsort(points[:, 0])
  values = points[order, 0]
  nearest = nearer(values, _neighbours(values, codewords))
  return jnp.zeros(len(points), jnp.int32).at[order].set(nearest)


def neighbours(points: jax.Array, codewords: jax.Array) -> Neighbours:
  """Returns what `search_unsorted` chooses among; index N for none."""
  order = jnp.argsort(points[:, 0])
  found = _neighbours(points[order, 0], codewords)
  return jax.tree.map(lambda x: jnp.zeros_like(x).at[order].set(x), found)


def _neighbours(values: jax.Array, codewords: jax.Array) -> Neighbours:
  """The neighbours of ascending points `[T]`.

  The sorted points cut the line into T + 1 intervals; interval i ends below
  point i.  Of the codewords in an interval only the lowest and the highest can
  be nearest to a point.  A point's neighbours are the highest codeword of the
  last interval before it that has any, and the lowest of the first after it.
  """
  num_points, num_codewords = len(values), len(codewords)
  numbers = codewords[:, 0]
  # A codeword that equals a point is in the interval after it.
  interval = jnp.searchsorted(values, numbers, side="right")

  def extremes(reduce):
    extreme = reduce(numbers, interval, num_points + 1)
    # The lowest index of those that are equal.
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
  """The index of the nearer of two neighbours, the lower of equally near."""
  to_below, to_above = x - found.below, found.above - x
  nearer = jnp.where(to_below < to_above, found.below_index, found.above_index)
  lower = jnp.minimum(found.below_index, found.above_index)
  return jnp.where(to_below == to_above, lower, nearer)
