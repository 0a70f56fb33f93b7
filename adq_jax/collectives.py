"""Operations of all devices of a mapped axis.

They are for use inside `jax.shard_map` and `jax.pmap`.

Shapes: n devices have t points each, and T = n t together.  Device i holds
codewords i N / n to (i + 1) N / n - 1 of N; these are its shard.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp

_SUM_PARTS = 1024  # the most partial sums that a sum over codewords has


def gather(tree: Any, axis_name: str | None) -> Any:
  """Returns the arrays of all devices, joined in the order of the devices.

  Args:
    tree: a tree of arrays `[t, ...]`.
    axis_name: the mapped axis; without one the tree is returned as it is.

  Returns:
    A tree of arrays `[T, ...]`.
  """
  if axis_name is None:
    return tree
  # "invarying": the same on all devices, which `jax.shard_map` checks.
  return jax.lax.all_gather(tree, axis_name, tiled=True, to="invarying")


def vary_as(tree: Any, *references: Any) -> Any:
  """Returns arrays as they are, of the type that loops over references need.

  Under `jax.shard_map` the type of an array says over which axes it varies from
  device to device.  A loop must return its first values' type, though what it
  computes from references varies as these do.

  Args:
    tree: a tree of arrays: the first values of a loop.
    references: trees of arrays, on which the next values depend.
  """
  axes = frozenset().union(*map(_axes, jax.tree.leaves(references)))

  def vary(x: jax.Array) -> jax.Array:
    missing = tuple(axes - _axes(x))
    return jax.lax.pcast(x, missing, to="varying") if missing else x

  return jax.tree.map(vary, tree)


def _axes(x: Any) -> frozenset[str]:
  """Returns the mapped axes over which an array varies."""
  return jax.typeof(x).manual_axis_type.varying


def num_shards(axis_name: str | None) -> int:
  """Returns n, the number of devices; 1 without an axis."""
  return 1 if axis_name is None else jax.lax.axis_size(axis_name)


def rows_of_shard(size: int, axis_name: str | None) -> jax.Array:
  """Returns the indices of the codewords that this device holds.

  Args:
    size: N / n.
    axis_name: the mapped axis over whose devices the codebook is cut; without
      one the device holds all codewords.

  Returns:
    int32 `[size]`.
  """
  rows = jnp.arange(size, dtype=jnp.int32)
  if axis_name is None:
    return rows
  return rows + size * jax.lax.axis_index(axis_name)


def mean(values: jax.Array, axis_name: str | None) -> jax.Array:
  """Returns the mean of one number for each codeword, float32 `[]`.

  Args:
    values: the numbers of this device's codewords, float32 `[N / n]`.
    axis_name: the mapped axis over whose devices the codebook is cut; None
      where it is not cut.
  """
  return total(values, axis_name) / (len(values) * num_shards(axis_name))


def total(values: jax.Array, axis_name: str | None) -> jax.Array:
  """Returns the sum of one number for each codeword, float32 `[]`.

  The summation order is the same for every n that divides both N and 1,024.
  Other n may round differently.

  Args:
    values: the numbers of this device's codewords, float32 `[N / n]`.
    axis_name: the mapped axis over whose devices the codebook is cut; None
      where it is not cut.
  """
  shards = num_shards(axis_name)
  parts = math.gcd(len(values) * shards, _SUM_PARTS)
  parts = 1 if parts % shards else parts // shards
  return add_up(gather(add_up(values.reshape(parts, -1).T), axis_name))


def add_up(values: jax.Array) -> jax.Array:
  """Returns the sum over the first axis, in an order that K alone decides.

  The compiler chooses the order of a plain sum, which may then round
  differently in another program.  This sum adds the second half of the axis to
  the first, until one row is left.

  Args:
    values: `[K, ...]`, K >= 1.

  Returns:
    `[...]`.
  """
  while len(values) > 1:
    half = -(-len(values) // 2)
    padding = [(0, 2 * half - len(values))] + [(0, 0)] * (values.ndim - 1)
    values = jnp.pad(values, padding)
    values = values[:half] + values[half:]
  return values[0]


def codes_in_shard(codes: jax.Array, size: int, axis_name: str) -> jax.Array:
  """Returns codes as indices of this device's shard.

  Args:
    codes: int32 `[...]`, in [0, N).
    size: N / n.
    axis_name: the mapped axis over whose devices the codebook is cut.

  Returns:
    int32 `[...]`, in [0, N / n); N / n for a codeword of another device.
  """
  local = codes - size * jax.lax.axis_index(axis_name)
  return jnp.where((local >= 0) & (local < size), local, size)


def to_owners(x: jax.Array, axis_name: str) -> jax.Array:
  """Sends results to the devices that own the points.

  Args:
    x: this device's results for the points of all devices, `[..., T]`.
    axis_name: the mapped axis of the devices.

  Returns:
    `[n, ..., t]`, the results of all devices for this device's points.
  """
  num_devices = jax.lax.axis_size(axis_name)
  parts = x.reshape(*x.shape[:-1], num_devices, -1)
  return jax.lax.all_to_all(jnp.moveaxis(parts, -2, 0), axis_name, 0, 0)


def part_of_device(x: jax.Array, axis_name: str) -> jax.Array:
  """Returns this device's `[t, ...]` of an array `[T, ...]` of all devices."""
  size = len(x) // jax.lax.axis_size(axis_name)
  start = size * jax.lax.axis_index(axis_name)
  return jax.lax.dynamic_slice_in_dim(x, start, size)
