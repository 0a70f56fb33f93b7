"""The shards of a codebook that several devices share out.

Device i of n holds codewords i N / n to (i + 1) N / n - 1 of N: its shard.
"""

from typing import TypeVar

import jax
import jax.numpy as jnp

from adq_jax import checks

_State = TypeVar("_State")


def split_codebook(state: _State, num_shards: int) -> _State:
  """Cuts codebooks into shards.

  Args:
    state: a tree of what whole codebooks consist of, such as the collection
      "codebook" of a `VectorQuantizer`: `[N, ...]`, and scalars.
    num_shards: n.

  Returns:
    A tree of `[n, N / n, ...]`, with scalars repeated, `[n]`: what `jax.pmap`
    takes.

  Raises:
    ValueError: if n does not divide N.
  """

  def split(x: jax.Array) -> jax.Array:
    if jnp.ndim(x) == 0:
      return jnp.broadcast_to(x, (num_shards,))
    check_divides(len(x), num_shards)
    return x.reshape(num_shards, -1, *x.shape[1:])

  return jax.tree.map(split, state)


def merge_codebook(shards: _State) -> _State:
  """Makes whole codebooks of shards: the reverse of `split_codebook`."""

  def merge(x: jax.Array) -> jax.Array:
    return x[0] if x.ndim == 1 else x.reshape(-1, *x.shape[2:])

  return jax.tree.map(merge, shards)


def check_field(shard_codebook: bool, axis_name: str | None) -> None:
  """Raises a ValueError unless a quantizer can have these fields."""
  checks.check_choice("shard_codebook", shard_codebook, (False, True))
  if shard_codebook and axis_name is None:
    raise ValueError(
      "shard_codebook is True; it must be False without axis_name, the mapped"
      " axis of the devices that hold the shards"
    )


def check_divides(codebook_size: int, num_devices: int) -> None:
  """Raises a ValueError unless every device gets as many codewords."""
  if num_devices < 1 or codebook_size % num_devices:
    raise ValueError(
      f"codebook_size is {codebook_size}; to be sharded it must be a multiple"
      f" of the number of devices, {num_devices}"
    )


def check_shard(shard: jax.Array, codebook_size: int, axis_name: str) -> None:
  """Raises a ValueError unless it is what a device of the axis holds."""
  checks.check_axis(
    "axis_name",
    axis_name,
    "merge_codebook the shards for a quantizer without shard_codebook",
  )
  num_devices = jax.lax.axis_size(axis_name)
  check_divides(codebook_size, num_devices)
  checks.check_shape(
    "embedding",
    shard,
    (codebook_size // num_devices, shard.shape[1]),
    f"the shard that each of {num_devices} devices has; see split_codebook",
  )
