"""Exact search among codewords that several devices share out.

Shapes: n devices have t points each, and T = n t together.  A point has K
prices.  Of N codewords of width D each device has N / n, its shard (see
`adq_jax.codebook.shards`).  All functions are for use inside
`jax.shard_map` and `jax.pmap`.

Nothing as large as N x D is ever on one device, and nothing as large as T x N
anywhere.  The points go to all shards.  From every shard the nearest codeword
comes back to the device that owns the point, which chooses among n.
"""

import functools

import jax
from jax import export
import jax.numpy as jnp

from adq_jax import collectives
from adq_jax.chunks import map_chunks
from adq_jax.search import bisection
from adq_jax.search import nearest
from adq_jax.search.distances import sum_of_products
from adq_jax.search.distances import sum_of_squares
from adq_jax.search.penalty import check_penalty
from adq_jax.search.penalty import Penalty
from adq_jax.search.penalty import prepare_penalty


def nearest_codes(
  points: jax.Array,
  shard: jax.Array,
  axis_name: str,
  penalty: jax.Array | None = None,
  price: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
  """Finds the nearest of the codewords of all devices.

  Its codes are those of `adq_jax.nearest_codes` for the whole codebook.

  Args:
    points: this device's points, floating `[t, D]`, with one t on all devices.
    shard: this device's codewords, floating `[N / n, D]`.
    axis_name: the mapped axis over whose devices the codebook is cut.
    penalty: of this device's codewords, floating `[N / n]` or `[K, N / n]`, as
      that of `adq_jax.nearest_codes`.
    price: of this device's points, floating `[t]` or `[t, K]`.

  Returns:
    The codes int32 `[t]`, and their codewords `[t, D]`, to the bit.

  Raises:
    ValueError: if the penalty and the price do not fit, or t is symbolic.
  """
  _check_known(points.shape[0], axis_name)
  check_penalty(penalty, price, shard, points.shape[:1])
  if not len(points):
    return jnp.zeros(0, jnp.int32), points
  points = jax.lax.stop_gradient(points)
  num_devices = jax.lax.axis_size(axis_name)
  if penalty is None:
    return map_chunks(
      lambda chunk: _nearest_of_all(
        collectives.gather(chunk, axis_name), shard, axis_name
      ),
      points,
      max(nearest.points_at_once(points.shape[1]) // num_devices, 1),
    )
  codewords, own = prepare_penalty(
    penalty, price, nearest.prepare_codewords(shard), len(points)
  )
  width = points.shape[1] + own.per_point.shape[1]

  def search(chunk):
    points, prices = collectives.gather(chunk, axis_name)
    of_all = Penalty(own.per_codeword, prices)
    return _cheapest_of_all(points, shard, codewords, of_all, axis_name)

  return map_chunks(
    search,
    (points, own.per_point),
    max(nearest.points_at_once(width) // num_devices, 1),
  )


def _nearest_of_all(
  points: jax.Array, shard: jax.Array, axis_name: str
) -> tuple[jax.Array, jax.Array]:
  """Returns this device's codes and codewords, given all points `[T, D]`."""
  (num_points, dim), size = points.shape, len(shard)
  codebook_size = size * jax.lax.axis_size(axis_name)
  finite, is_nan = nearest.prepare_points(points)
  find, choose = _find_nearest, _choose_nearest
  if nearest.best_on_cpu(num_points, codebook_size, dim) == "sorted":
    # On a CPU the unsharded search decides between neighbours, so this one must
    # too: near a tie another computation may round to another codeword.
    find = functools.partial(
      jax.lax.platform_dependent,
      cpu=_find_neighbours,
      default=lambda *arrays: jnp.tile(_find_nearest(*arrays), (2, 1)),
    )
    choose = functools.partial(
      jax.lax.platform_dependent,
      cpu=functools.partial(_choose_neighbour, none=codebook_size),
      default=_choose_nearest,
    )
  local = jnp.where(is_nan, 0, find(finite, nearest.prepare_codewords(shard)))
  # Points go on the minor axis, as in the unsharded search.  With another order
  # of axes XLA on a CPU would round the same sum differently.
  rows = jnp.take(shard, local, axis=0, mode="clip").transpose(0, 2, 1)
  indices = local + size * jax.lax.axis_index(axis_name)
  indices = jnp.where(local < size, indices, codebook_size)
  rows = collectives.to_owners(rows, axis_name)  # [n, one or two, D, t]
  indices = collectives.to_owners(indices, axis_name)
  finite, is_nan = (
    collectives.part_of_device(x, axis_name) for x in (finite, is_nan)
  )
  codes = choose(finite, nearest.prepare_codewords(rows), indices)
  codes = jnp.where(is_nan, 0, codes)
  return codes, _pick(rows, indices == codes[None, None])


def _cheapest_of_all(
  points: jax.Array,
  shard: jax.Array,
  codewords: jax.Array,
  penalty: Penalty,
  axis_name: str,
) -> tuple[jax.Array, jax.Array]:
  """Returns this device's codes and codewords, where penalties are added.

  Args:
    points: of all devices, floating `[T, D]`.
    shard: this device's codewords, floating `[N / n, D]`.
    codewords: the same, prepared for a search, float32 `[N / n, D]`.
    penalty: of this device's codewords and of all points.
    axis_name: the mapped axis over whose devices the codebook is cut.
  """
  finite, is_nan = nearest.prepare_points(points)
  penalties, prices_t = penalty.per_codeword, penalty.per_point.T
  local = nearest.nearest_codes(
    finite, codewords, penalty=penalties.T, price=penalty.per_point
  )
  local = jnp.where(is_nan, 0, local)
  # As in `_nearest_of_all`, points go on the minor axis.
  rows, own, products = (
    jnp.take(x, local, axis=0, mode="clip").T
    for x in (shard, codewords, penalties)
  )
  sums = sum_of_squares(len(own), lambda d: own[d] - finite[:, d])
  sums += sum_of_products(len(prices_t), lambda k: products[k] * prices_t[k])
  indices = local + len(shard) * jax.lax.axis_index(axis_name)
  rows, sums, indices = (
    collectives.to_owners(x[None], axis_name) for x in (rows, sums, indices)
  )
  codes = _lowest_of_smallest(sums, indices)
  codes = jnp.where(collectives.part_of_device(is_nan, axis_name), 0, codes)
  return codes, _pick(rows, indices == codes[None, None])


def take(codes: jax.Array, shard: jax.Array, axis_name: str) -> jax.Array:
  """Returns the codewords `[t, D]` of codes, NaN where there is none.

  Args:
    codes: int32 `[t]`, of which those outside [0, N) have no codeword.
    shard: this device's codewords, `[N / n, D]`.
    axis_name: the mapped axis over whose devices the codebook is cut.

  Raises:
    ValueError: if t is symbolic.
  """
  _check_known(codes.shape[0], axis_name)
  if not len(codes):
    return jnp.zeros((0, shard.shape[1]), shard.dtype)
  size = len(shard)
  local = collectives.codes_in_shard(
    collectives.gather(codes, axis_name), size, axis_name
  )
  rows = jnp.take(shard, local, axis=0, mode="clip").T
  rows = collectives.to_owners(rows[None], axis_name)
  shards = jnp.arange(len(rows), dtype=jnp.int32)[:, None, None]
  is_match = shards == jnp.where(codes < 0, -1, codes // size)[None, None]
  values = _pick(rows, is_match)
  return jnp.where(is_match.any(axis=(0, 1))[:, None], values, jnp.nan)


def _check_known(num_points: int, axis_name: str) -> None:
  if export.is_symbolic_dim(num_points):
    raise ValueError(
      f"a device has {num_points} points, and the codebook is cut over"
      f" {axis_name!r}; export this for a batch of one size, or with"
      " shard_codebook=False for any batch"
    )


def _find_nearest(points: jax.Array, shard: jax.Array) -> jax.Array:
  """Returns the index within a shard of the nearest codeword, `[1, T]`."""
  return nearest.nearest_codes(points, shard)[None]


def _find_neighbours(points: jax.Array, shard: jax.Array) -> jax.Array:
  """Returns the indices of both neighbours on the line, `[2, T]`.

  They are indices within the shard, and N / n where there is no neighbour.
  """
  found = bisection.neighbours(points, shard)
  return jnp.stack([found.below_index, found.above_index])


def _choose_nearest(
  points: jax.Array, candidates: jax.Array, indices: jax.Array
) -> jax.Array:
  """Returns the code `[t]` of the nearest candidate, the lowest of a tie.

  Args:
    points: finite float32 `[t, D]`.
    candidates: c codewords of each shard for every point, `[n, c, D, t]`.
    indices: the indices of the candidates, `[n, c, t]`.
  """
  squares = sum_of_squares(
    points.shape[1], lambda d: candidates[:, :, d] - points[None, None, :, d]
  )
  return _lowest_of_smallest(squares, indices)


def _lowest_of_smallest(values: jax.Array, indices: jax.Array) -> jax.Array:
  """Returns the lowest index `[t]` of the smallest of values `[n, c, t]`."""
  smallest = values.min(axis=(0, 1), keepdims=True)
  largest = jnp.iinfo(jnp.int32).max
  return jnp.where(values == smallest, indices, largest).min(axis=(0, 1))


def _choose_neighbour(
  points: jax.Array, candidates: jax.Array, indices: jax.Array, none: int
) -> jax.Array:
  """Returns the code `[t]` of the nearest neighbour on the line.

  Args:
    points: finite float32 `[t, 1]`.
    candidates: the neighbours below and above in each shard, `[n, 2, 1, t]`.
    indices: the indices of the candidates, `[n, 2, t]`.
    none: the index where a shard has no such neighbour.
  """
  is_none = indices == none
  below = jnp.where(is_none[:, 0], -jnp.inf, candidates[:, 0, 0])
  above = jnp.where(is_none[:, 1], jnp.inf, candidates[:, 1, 0])
  highest = below.max(axis=0, keepdims=True)
  lowest = above.min(axis=0, keepdims=True)
  return bisection.nearer(
    points[:, 0],
    bisection.Neighbours(
      below=highest[0],
      below_index=jnp.where(below == highest, indices[:, 0], none).min(axis=0),
      above=lowest[0],
      above_index=jnp.where(above == lowest, indices[:, 1], none).min(axis=0),
    ),
  )


def _pick(rows: jax.Array, is_match: jax.Array) -> jax.Array:
  """Returns the rows `[t, D]` of `rows` at the first true `[n, c, t]`."""
  flat = rows.reshape(-1, *rows.shape[2:])
  first = jnp.argmax(is_match.reshape(len(flat), -1), axis=0)
  return jnp.take_along_axis(flat, first[None, None], axis=0)[0].T
