"""Exact search that skips codewords, for codewords of width 2 to 8.

Shapes: T points, N codewords, D their width.

Quantiles of the codewords cut every axis into levels, and thereby space into
cells.  The codewords are sorted by cell, the last axis fastest.  Cells that
differ in the last axis alone are a column.  The codewords of a column that lie
within some distance of a point are therefore neighbours in the order.

The search of a point starts from codewords near its own cell.  The distance to
the nearest of them bounds the distance of every better one.  This bound says
which columns are left to look at, and which codewords in them.
"""

import math

import flax
import jax
import jax.numpy as jnp

from adq_jax import collectives
from adq_jax.chunks import for_each_chunk
from adq_jax.search import scan
from adq_jax.search.distances import sum_of_squares

MAX_WIDTH = 8
_SAMPLE = 1024  # codewords from which the quantiles are computed
_PER_CELL = 2  # codewords in a cell, for each axis a factor
_WINDOW = 16  # neighbours in the order that are compared together
_SLACK = 1e-6  # relative; above the rounding of bounds and distances


@flax.struct.dataclass
class Cells:
  """Codewords in the order of their cells.

  Attributes:
    codewords: in their original order, float32 `[N, D]`.
    edges: for each axis the lower ends of its levels 1, 2, ..., ascending.
    columns: the codewords in the order of cells, D arrays float32 `[N]`, one
      for each axis.
    order: the index of each codeword in the order of cells, int32 `[N]`.
    starts: the place of each cell's first codeword, and N, int32 `[cells + 1]`.
  """

  codewords: jax.Array
  edges: tuple[jax.Array, ...]
  columns: tuple[jax.Array, ...]
  order: jax.Array
  starts: jax.Array

  @property
  def width(self) -> int:
    return len(self.columns)


def build(codewords: jax.Array) -> Cells:
  """Sorts codewords float32 `[N, D]` into cells; none may be NaN."""
  num_codewords, dim = codewords.shape
  levels = _levels(num_codewords, dim)
  size = min(_SAMPLE, num_codewords)
  sample = _sort(codewords[:: num_codewords // size][:size].T)
  edges, cell = [], jnp.zeros(num_codewords, jnp.int32)
  for d, count in enumerate(levels):
    edges.append(sample[d][jnp.arange(1, count) * size // count])
    cell = cell * count + _level(edges[d], codewords[:, d])
  order = _argsort(cell, math.prod(levels))
  cells = jnp.arange(math.prod(levels) + 1, dtype=jnp.int32)
  starts = jnp.searchsorted(cell[order], cells)
  return Cells(
    codewords=codewords,
    edges=tuple(edges),
    columns=tuple(codewords[:, d][order] for d in range(dim)),
    order=order,
    starts=starts.astype(jnp.int32),
  )


def search(points: jax.Array, cells: Cells) -> jax.Array:
  """Returns the indices int32 `[T]` of the codewords nearest to points.

  Most points are done after a few windows.  The few that need more continue
  among themselves.  Points far from all codewords have many columns to look
  at; those that are not done by then are left to the scan.

  Args:
    points: finite float32 `[T, D]`.
    cells: of the codewords, from `build`.
  """
  num_points, num_codewords = len(points), len(cells.order)
  few = max(num_points // 8, 1)
  patience = max(num_codewords // (256 * _WINDOW), 4)
  best, index = _first_window(points, cells)
  best, index, is_open = _visit(points, best, index, cells, patience, few)

  def go_on(found, which):
    best, index, is_open = found
    subset = [
      array.at[which].get(mode="clip") for array in (points, best, index)
    ]
    results = _visit(*subset, cells, max(patience // 2, 16), 0)
    return tuple(
      array.at[which].set(result, mode="drop")
      for array, result in zip(found, results, strict=True)
    )

  # If they are many, the scan is faster.
  is_few = is_open.sum() <= few
  found = for_each_chunk(is_open & is_few, (best, index, is_open), go_on, few)
  _, index, is_open = found
  return scan.search_doubtful(points, cells.codewords, index, is_open)


def _visit(
  points: jax.Array,
  best: jax.Array,
  index: jax.Array,
  cells: Cells,
  max_windows: int,
  max_open: int,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Looks at the columns in reach of each point, window after window.

  Args:
    points: float32 `[T, D]`.
    best: the squared distance to the nearest codeword so far, `[T]`.
    index: the index of that codeword, `[T]`.
    cells: of the codewords.
    max_windows: the most windows of each point.
    max_open: the search stops when no more points than this need more windows.

  Returns:
    `best` and `index` after the windows, and whether a point has columns left,
    bool `[T]`.
  """
  num_crossed = points.shape[1] - 1  # axes that tell columns apart
  crossed = range(num_crossed)
  counts = [len(edges) + 1 for edges in cells.edges]
  below = [jnp.pad(e, (1, 0), constant_values=-jnp.inf) for e in cells.edges]
  above = [jnp.pad(e, (0, 1), constant_values=jnp.inf) for e in cells.edges]
  coordinates = points.T

  def reach(best, d):
    radius = jnp.sqrt(best) * (1 + _SLACK)
    x = coordinates[d]
    edges = cells.edges[d]
    return _level(edges, x - radius), _level(edges, x + radius)

  def span(best, column):
    """Returns the [start, end) of codewords in a column that may be as near."""
    bound, cell = 0.0, 0
    for d in crossed:
      x = coordinates[d]
      gap = jnp.maximum(below[d][column[d]] - x, x - above[d][column[d]])
      bound += jnp.square(jnp.maximum(gap, 0.0))
      cell = cell * counts[d] + column[d]
    low, high = reach(best, num_crossed)
    cell = cell * counts[-1]
    start = cells.starts[cell + low]
    end = cells.starts[cell + high + 1]
    return start, jnp.where(bound * (1 - _SLACK) <= best, end, start)

  first, last = zip(*[reach(best, d) for d in crossed], strict=True)

  def needs_more(state):
    step, *_, is_open = state
    return (step < max_windows) & (is_open.sum() > max_open)

  def look(state):
    step, best, index, column, position, end, is_open = state
    best, index = _window(points, best, index, cells, position)
    position += _WINDOW
    is_done = position >= end
    # The next column: like an odometer, the last axis turns first.
    carry, turned = is_done, list(column)
    for d in reversed(crossed):
      level = jnp.where(carry, column[d] + 1, column[d])
      carry = level > last[d]
      turned[d] = jnp.where(carry, first[d], level)
    start, stop = span(best, turned)
    position = jnp.where(is_done, start, position)
    end = jnp.where(is_done, stop, end)
    is_open &= ~carry
    return step + 1, best, index, tuple(turned), position, end, is_open

  position, end = span(best, first)
  is_open = jnp.ones(len(points), bool)
  is_open = collectives.vary_as(is_open, best)
  state = (0, best, index, first, position, end, is_open)
  _, best, index, *_, is_open = jax.lax.while_loop(needs_more, look, state)
  return best, index, is_open


def _first_window(
  points: jax.Array, cells: Cells
) -> tuple[jax.Array, jax.Array]:
  """Looks at codewords around each point's own cell."""
  cell = 0
  for d, edges in enumerate(cells.edges):
    cell = cell * (len(edges) + 1) + _level(edges, points[:, d])
  middle = (cells.starts[cell] + cells.starts[cell + 1]) // 2
  best = jnp.full(len(points), jnp.inf, jnp.float32)
  index = jnp.zeros(len(points), jnp.int32)
  return _window(points, best, index, cells, middle - _WINDOW // 2)


def _window(
  points: jax.Array,
  best: jax.Array,
  index: jax.Array,
  cells: Cells,
  position: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  """Compares each point with the codewords from `position` `[T]` on."""
  offsets = jnp.arange(_WINDOW, dtype=jnp.int32)[:, None]
  at = jnp.clip(position[None] + offsets, 0, len(cells.order) - 1)
  squares = sum_of_squares(
    points.shape[1], lambda d: cells.columns[d][at] - points[None, :, d]
  )
  # Compare each distance as it was first computed, here and below.  A second
  # computation may round differently, and equal distances would then differ.
  found = jax.lax.reduce(
    (squares, cells.order[at]),
    (jnp.float32(jnp.inf), jnp.int32(len(cells.order))),
    _nearer,
    dimensions=(0,),
  )
  return _nearer((best, index), found)


def _nearer(
  one: tuple[jax.Array, jax.Array], other: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
  """Returns the nearer of two pairs (squared distance, index).

  Of equally near ones it returns the pair with the lower index.
  """
  is_other = (other[0] < one[0]) | ((other[0] == one[0]) & (other[1] < one[1]))
  return (
    jnp.where(is_other, other[0], one[0]),
    jnp.where(is_other, other[1], one[1]),
  )


def _level(edges: jax.Array, x: jax.Array) -> jax.Array:
  return jnp.searchsorted(edges, x, side="right").astype(jnp.int32)


def _levels(num_codewords: int, dim: int) -> list[int]:
  """Returns the number of levels of each axis."""
  bits = max(num_codewords // _PER_CELL**dim, 1).bit_length() - 1
  # A column is searched, but columns are visited one by one: so there are more
  # levels along columns than across them.
  along = min(bits, -(-bits // dim) + (1 if dim == 2 else 0))
  each, extra = divmod(bits - along, dim - 1)
  return [1 << (each + (d < extra)) for d in range(dim - 1)] + [1 << along]


def _argsort(keys: jax.Array, limit: int) -> jax.Array:
  """Returns the stable order of keys int32 `[N]` in [0, limit).

  XLA sorts integers many times faster than pairs, so key and place share an
  integer of 32 bits.  Where they do not fit, the lower part of the keys is
  sorted first, and then the upper part.
  """
  place_bits = max((len(keys) - 1).bit_length(), 1)
  places = jnp.arange(len(keys), dtype=jnp.uint32)
  order = places
  for done in range(0, (limit - 1).bit_length(), 32 - place_bits):
    digit = keys.astype(jnp.uint32)[order] >> done
    packed = jnp.sort((digit << place_bits) | places)
    order = order[packed & ((1 << place_bits) - 1)]
  return order.astype(jnp.int32)


def _sort(x: jax.Array) -> jax.Array:
  """Sorts the last axis, as integers in the same order, which is faster."""

  def swap(bits):
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)

  bits = jax.lax.bitcast_convert_type(x, jnp.int32)
  ordered = jnp.sort(swap(bits), axis=-1)
  return jax.lax.bitcast_convert_type(swap(ordered), jnp.float32)
