"""One codebook over several devices, each of which holds some codewords.

Shapes: n devices, t points of each, T = n t of all; N codewords, D their width.
Device i of the mapped axis holds codewords i N / n to (i + 1) N / n - 1: its
shard.  All functions but the first two are for inside of `jax.pmap`.

Nothing as large as N x D is ever on one device, and nothing as large as T x N
anywhere: points go to all shards, and from every shard the nearest codeword
comes back to the device whose point it is, which chooses among n.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp

from adq_jax import checks
from adq_jax.parts import map_parts
from adq_jax.search import bisection
from adq_jax.search import nearest
from adq_jax.search import scan

_SUM_PARTS = 1024  # that a sum over codewords is made of, at most


def split_codebook(state: Any, num_shards: int) -> Any:
  """Cuts codebooks into shards.

  Args:
    state: a tree of what whole codebooks consist of, such as the collection
      "codebook" of a `VectorQuantizer`: `[N, ...]`, and scalars.
    num_shards: n.

  Returns:
    The same tree, `[n, N / n, ...]`, with scalars repeated, `[n]`: what
    `jax.pmap` takes.

  Raises:
    ValueError: if n does not divide N.
  """

  def split(x: jax.Array) -> jax.Array:
    if jnp.ndim(x) == 0:
      return jnp.broadcast_to(x, (num_shards,))
    check_divides(len(x), num_shards)
    return x.reshape(num_shards, -1, *x.shape[1:])

  return jax.tree.map(split, state)


def merge_codebook(shards: Any) -> Any:
  """Makes whole codebooks of shards: the reverse of `split_codebook`."""

  def merge(x: jax.Array) -> jax.Array:
    return x[0] if x.ndim == 1 else x.reshape(-1, *x.shape[2:])

  return jax.tree.map(merge, shards)


def check_divides(codebook_size: int, num_devices: int) -> None:
  """Raises a ValueError unless every device gets as many codewords."""
  if num_devices < 1 or codebook_size % num_devices:
    raise ValueError(
      f"codebook_size is {codebook_size}; to be sharded it must be a multiple"
      f" of the number of devices, {num_devices}"
    )


def check_shard(shard: jax.Array, codebook_size: int, axis_name: str) -> None:
  """Raises a ValueError unless it is what a device of the axis holds."""
  try:
    checks.check_axis("axis_name", axis_name)
  except ValueError as error:
    raise ValueError(
      f"shard_codebook needs the mapped axis {axis_name!r}; apply inside of"
      f" jax.pmap(..., axis_name={axis_name!r}), or merge_codebook the shards"
      " for a quantizer without it"
    ) from error
  num_devices = jax.lax.axis_size(axis_name)
  check_divides(codebook_size, num_devices)
  checks.check_shape(
    "embedding",
    shard,
    (codebook_size // num_devices, shard.shape[1]),
    f"the shard that each of {num_devices} devices has; see split_codebook",
  )


def gather(tree: Any, axis_name: str | None) -> Any:
  """Returns what all devices have of arrays, `[t, ...]` -> `[T, ...]`."""
  if axis_name is None:
    return tree
  return jax.lax.all_gather(tree, axis_name, tiled=True)


def num_shards(axis_name: str | None) -> int:
  """Returns n; 1 without axis."""
  return 1 if axis_name is None else jax.lax.axis_size(axis_name)


def rows_of_shard(size: int, axis_name: str | None) -> jax.Array:
  """Returns which codewords a device holds, int32 `[size]`; all without axis.

  Args:
    size: N / n.
    axis_name: over whose devices the codebook is cut.
  """
  rows = jnp.arange(size, dtype=jnp.int32)
  if axis_name is None:
    return rows
  return rows + size * jax.lax.axis_index(axis_name)


def mean(values: jax.Array, axis_name: str | None) -> jax.Array:
  """The mean of what `total` adds."""
  return total(values, axis_name) / (len(values) * num_shards(axis_name))


def total(values: jax.Array, axis_name: str | None) -> jax.Array:
  """The sum of a number for each codeword, float32 `[]`.

  Added in an order that any n keeps which divides N and 1,024; others may round
  in another way.

  Args:
    values: of this device's codewords, float32 `[N / n]`.
    axis_name: over whose devices the codebook is cut; None where it is whole.
  """
  shards = num_shards(axis_name)
  parts = math.gcd(len(values) * shards, _SUM_PARTS)
  parts = 1 if parts % shards else parts // shards
  return add_up(gather(add_up(values.reshape(parts, -1).T), axis_name))


def add_up(values: jax.Array) -> jax.Array:
  """The sum of `[K, ...]`, K >= 1, over the first axis, halves at a time.

  The order of a plain sum is the compiler's choice.
  """
  while len(values) > 1:
    half = -(-len(values) // 2)
    padding = [(0, 2 * half - len(values))] + [(0, 0)] * (values.ndim - 1)
    values = jnp.pad(values, padding)
    values = values[:half] + values[half:]
  return values[0]


def codes_in_shard(codes: jax.Array, size: int, axis_name: str) -> jax.Array:
  """Returns codes as indices of this device's shard; N / n where elsewhere.

  Args:
    codes: of the whole codebook, int32 `[...]`.
    size: N / n.
    axis_name: over whose devices the codebook is cut.
  """
  local = codes - size * jax.lax.axis_index(axis_name)
  return jnp.where((local >= 0) & (local < size), local, size)


def nearest_codes(
  points: jax.Array, shard: jax.Array, axis_name: str
) -> tuple[jax.Array, jax.Array]:
  """Finds the nearest of all codewords: what `adq_jax.nearest_codes` does.

  Args:
    points: of this device, floating `[t, D]`, as many as the others have.
    shard: this device's codewords, floating `[N / n, D]`.
    axis_name: over whose devices the codebook is cut.

  Returns:
    the codes int32 `[t]`, and their codewords `[t, D]`, to the bit.
  """
  if not len(points):
    return jnp.zeros(0, jnp.int32), points
  size = nearest.points_at_once(points.shape[1])
  return map_parts(
    lambda part: _nearest_of_all(gather(part, axis_name), shard, axis_name),
    jax.lax.stop_gradient(points),
    max(size // jax.lax.axis_size(axis_name), 1),
  )


def _nearest_of_all(
  points: jax.Array, shard: jax.Array, axis_name: str
) -> tuple[jax.Array, jax.Array]:
  """The same of this device's points, given those of all, `[T, D]`."""
  (num_points, dim), size = points.shape, len(shard)
  codebook_size = size * jax.lax.axis_size(axis_name)
  finite, is_nan = nearest.prepare_points(points)
  find, choose = _find_nearest, _choose_nearest
  if nearest.best_on_cpu(num_points, codebook_size, dim) == "sorted":
    # The unsharded search decides so there, and nowhere else.
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
  # Points go on the minor axis: so the search has them too, and XLA on a CPU
  # rounds the same sum differently where it finds the axes in another order.
  rows = jnp.take(shard, local, axis=0, mode="clip").transpose(0, 2, 1)
  indices = local + size * jax.lax.axis_index(axis_name)
  indices = jnp.where(local < size, indices, codebook_size)
  rows = _to_owners(rows, axis_name)  # [n, one or two, D, t]
  indices = _to_owners(indices, axis_name)
  finite, is_nan = (_own_part(x, axis_name) for x in (finite, is_nan))
  codes = choose(finite, nearest.prepare_codewords(rows), indices)
  codes = jnp.where(is_nan, 0, codes)
  return codes, _pick(rows, indices == codes[None, None])


def take(codes: jax.Array, shard: jax.Array, axis_name: str) -> jax.Array:
  """Returns the codewords `[t, D]` of codes, NaN where there is none.

  Args:
    codes: of the whole codebook, int32 `[t]`.
    shard: this device's codewords, `[N / n, D]`.
    axis_name: over whose devices the codebook is cut.
  """
  if not len(codes):
    return jnp.zeros((0, shard.shape[1]), shard.dtype)
  size = len(shard)
  local = codes_in_shard(gather(codes, axis_name), size, axis_name)
  rows = jnp.take(shard, local, axis=0, mode="clip").T
  rows = _to_owners(rows[None], axis_name)
  shards = jnp.arange(len(rows), dtype=jnp.int32)[:, None, None]
  is_it = shards == jnp.where(codes < 0, -1, codes // size)[None, None]
  values = _pick(rows, is_it)
  return jnp.where(is_it.any(axis=(0, 1))[:, None], values, jnp.nan)


def _to_owners(x: jax.Array, axis_name: str) -> jax.Array:
  """Sends `[..., T]` to whom the points belong; gets `[n, ..., t]`."""
  num_devices = jax.lax.axis_size(axis_name)
  parts = x.reshape(*x.shape[:-1], num_devices, -1)
  return jax.lax.all_to_all(jnp.moveaxis(parts, -2, 0), axis_name, 0, 0)


def _own_part(x: jax.Array, axis_name: str) -> jax.Array:
  """Of `[T, ...]`, this device's `[t, ...]`."""
  size = len(x) // jax.lax.axis_size(axis_name)
  start = size * jax.lax.axis_index(axis_name)
  return jax.lax.dynamic_slice_in_dim(x, start, size)


def _find_nearest(points: jax.Array, shard: jax.Array) -> jax.Array:
  """The codeword of a shard that is nearest to each point, `[1, T]`."""
  return nearest.nearest_codes(points, shard)[None]


def _find_neighbours(points: jax.Array, shard: jax.Array) -> jax.Array:
  """On the line, those below and above, `[2, T]`; N / n where there is none."""
  found = bisection.neighbours(points, shard)
  return jnp.stack([found.below_index, found.above_index])


def _choose_nearest(
  points: jax.Array, candidates: jax.Array, indices: jax.Array
) -> jax.Array:
  """The code `[t]` of the nearest candidate, the lowest of equally near ones.

  Args:
    points: finite float32 `[t, D]`.
    candidates: `[n, c, D, t]`.
    indices: theirs, `[n, c, t]`.
  """
  squares = scan.sum_of_squares(
    points.shape[1], lambda d: candidates[:, :, d] - points[None, None, :, d]
  )
  smallest = squares.min(axis=(0, 1), keepdims=True)
  largest = jnp.iinfo(jnp.int32).max
  return jnp.where(squares == smallest, indices, largest).min(axis=(0, 1))


def _choose_neighbour(
  points: jax.Array, candidates: jax.Array, indices: jax.Array, none: int
) -> jax.Array:
  """The same on the line, of the codewords below and above in each shard.

  Args:
    points: finite float32 `[t, 1]`.
    candidates: `[n, 2, 1, t]`.
    indices: theirs, `[n, 2, t]`.
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


def _pick(rows: jax.Array, is_it: jax.Array) -> jax.Array:
  """Of rows `[n, c, D, t]` those `[t, D]` at the first true `[n, c, t]`."""
  flat = rows.reshape(-1, *rows.shape[2:])
  first = jnp.argmax(is_it.reshape(len(flat), -1), axis=0)
  return jnp.take_along_axis(flat, first[None, None], axis=0)[0].T
