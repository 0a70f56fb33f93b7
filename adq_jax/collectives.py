"""What the devices of a mapped axis do together; for inside of `jax.pmap`.

Shapes: n devices, t points of each, T = n t of all; N codewords, of which
device i holds i N / n to (i + 1) N / n - 1: its shard.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp

_SUM_PARTS = 1024  # that a sum over codewords is made of, at most


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


def to_owners(x: jax.Array, axis_name: str) -> jax.Array:
  """Sends `[..., T]` to whom the points belong; gets `[n, ..., t]`."""
  num_devices = jax.lax.axis_size(axis_name)
  parts = x.reshape(*x.shape[:-1], num_devices, -1)
  return jax.lax.all_to_all(jnp.moveaxis(parts, -2, 0), axis_name, 0, 0)


def own_part(x: jax.Array, axis_name: str) -> jax.Array:
  """Of `[T, ...]`, this device's `[t, ...]`."""
  size = len(x) // jax.lax.axis_size(axis_name)
  start = size * jax.lax.axis_index(axis_name)
  return jax.lax.dynamic_slice_in_dim(x, start, size)
