"""Lanes of neighbouring codewords, for a scan.

Shapes: T points, N codewords, D their width, K prices of each point, L lanes.

A scan keeps the smallest distance of every point in every lane, and no index.
Compilers vectorize such elementwise work, but not an argmin.  The scan then
looks through the nearest lane of each point once more, for the index.
"""

from collections.abc import Callable
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp

from adq_jax import collectives
from adq_jax.search.distances import sum_of_products
from adq_jax.search.distances import sum_of_squares

_LANES = 128
_LANE_WIDTH = 512  # numbers of a lane that are compared together


def transposed(points: jax.Array) -> jax.Array:
  """Returns points on the minor axis, `[D, T]`, which vectorizes over them."""
  # Rows of a multiple of 1024 bytes share so few of a CPU's cache sets that
  # the scan takes up to five times as long.
  if len(points) % 256 == 0:
    points = jnp.pad(points, ((0, 16), (0, 0)))
  return points.T


def cut(
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


def cut_all(
  codewords: jax.Array, penalties: jax.Array | None, in_one_go: int
) -> tuple[jax.Array, jax.Array | None]:
  """Cuts codewords into lanes, and their penalties `[N, K]`, if any, alike."""
  if penalties is not None:
    # The filler is infinitely far, and zero times infinity would be NaN.
    penalties = cut(penalties, in_one_go, fill=0.0)
  return cut(codewords, in_one_go), penalties


def smallest_of(
  values: Callable[[Any], Iterable[jax.Array]],
  points_t: jax.Array,
  lanes: Any,
) -> jax.Array:
  """Returns the smallest value `[L, T]` of each lane, for points `[D, T]`.

  Args:
    values: yields `[L, T]` for each codeword of a block `[in_one_go, L, D]`.
    points_t: the points.
    lanes: a tree of results of `cut`, whose blocks `values` takes.
  """

  def step(smallest, block):
    for value in values(block):
      smallest = jnp.minimum(smallest, value)
    return smallest, None

  blocks = jax.tree.map(lambda lane: lane.transpose(1, 2, 0, 3), lanes)
  num_lanes = jax.tree.leaves(lanes)[0].shape[0]
  start = jnp.full((num_lanes, points_t.shape[1]), jnp.inf, jnp.float32)
  start = collectives.vary_as(start, points_t, lanes)
  return jax.lax.scan(step, start, blocks)[0]


def first_of(is_match: jax.Array) -> jax.Array:
  """Returns the first lane `[T]` where `[L, T]` is true; 0 where none is."""
  lanes = jnp.arange(len(is_match), dtype=jnp.int32)[:, None]
  return jnp.where(is_match, lanes, len(is_match)).min(axis=0) % len(is_match)


def search_lane(
  points: jax.Array,
  all_lanes: tuple[jax.Array, jax.Array | None],
  lane: jax.Array,
  num_codewords: int,
  prices: jax.Array | None = None,
) -> jax.Array:
  """Finds the codeword nearest to each point within the point's lane.

  Args:
    points: finite float32 `[T, D]`.
    all_lanes: of `cut_all`.
    lane: int32 `[T]`, in [0, L).
    num_codewords: N.
    prices: float32 `[T, K]`, beside penalties.

  Returns:
    Its index, int32 `[T]`.
  """
  lanes, penalties = all_lanes
  num_lanes, num_steps, in_one_go, dim = lanes.shape
  in_lane = num_steps * in_one_go
  # A chunk of a lane has a few hundred numbers for each point.
  width = dim if penalties is None else dim + penalties.shape[-1]
  in_chunk = min(max(_LANE_WIDTH // width, 1), in_lane)
  num_chunks = -(-in_lane // in_chunk)

  def as_rows(lanes: jax.Array, fill: float) -> jax.Array:
    width = lanes.shape[-1]
    rows = jnp.pad(
      lanes.reshape(num_lanes, in_lane, width),
      ((0, 0), (0, num_chunks * in_chunk - in_lane), (0, 0)),
      constant_values=fill,
    ).reshape(num_lanes * num_chunks, in_chunk, width)
    return rows.transpose(0, 2, 1).reshape(len(rows), -1)

  rows = as_rows(lanes, jnp.inf)
  rows_of_penalties = None if penalties is None else as_rows(penalties, 0.0)

  def search(chunk):
    codewords = rows[lane * num_chunks + chunk]
    codewords = codewords.reshape(len(points), dim, in_chunk)
    squares = sum_of_squares(
      dim, lambda d: codewords[:, d] - points[:, d, None]
    )
    if rows_of_penalties is not None:
      own = rows_of_penalties[lane * num_chunks + chunk]
      own = own.reshape(*prices.shape, in_chunk)
      squares += sum_of_products(
        prices.shape[1], lambda k: own[:, k] * prices[:, k, None]
      )
    nearest = jnp.argmin(squares, axis=1).astype(jnp.int32)
    return squares.min(axis=1), chunk * in_chunk + nearest

  chunks = jnp.arange(num_chunks, dtype=jnp.int32)
  index = nearest_of_parts(search, chunks, points, lanes)
  return jnp.minimum(lane * in_lane + index, num_codewords - 1)


def nearest_of_parts(
  search: Callable[[Any], tuple[jax.Array, jax.Array]],
  parts: Any,
  points: jax.Array,
  codewords: jax.Array,
) -> jax.Array:
  """Searches one part of the codewords after another.

  Args:
    search: returns the distance float32 `[T]` of the nearest codeword of a
      part, and its index int32 `[T]`.
    parts: a tree of arrays, whose first axis is that of the parts.
    points: `[T, ...]`, which `search` looks at, as it does at
    codewords: of all parts, in any shape.

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
    jnp.full(len(points), jnp.inf, jnp.float32),
    jnp.zeros(len(points), jnp.int32),
  )
  best = collectives.vary_as(best, points, codewords)
  (_, index), _ = jax.lax.scan(step, best, parts)
  return index
