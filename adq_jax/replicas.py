"""A check that devices which should hold the same state do."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def check_replicated(tree: Any) -> None:
  """Raises a ValueError unless all devices hold the same, to the bit.

  It is for debugging, and copies all arrays to the host.  Replicas drift apart
  where devices have other random keys, or gradients that are not averaged.
  `jax.pmap` does not notice, nor does `jax.shard_map` with `check_vma=False`.

  Args:
    tree: arrays as they lie on n devices: `[n, ...]` with a copy in each row,
      as `jax.pmap` returns them; or on a mesh, where the copies of each part
      are compared.  Shards of a codebook are no copies: leave them out.  A
      process compares the copies on its own devices.

  Raises:
    ValueError: if copies differ; it names the first such array.  Or if the tree
      has something else than a `jax.Array`.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from adq_jax import check_replicated
    >>> z = jnp.arange(jax.device_count())
    >>> state = jax.pmap(lambda z: {"sum": jax.lax.psum(z, "i")}, "i")(z)
    >>> check_replicated(state)
  """
  leaves = jax.tree.leaves_with_path(tree)
  differing = []
  for path, x in leaves:
    name = jax.tree_util.keystr(path, simple=True, separator="/") or "tree"
    if not isinstance(x, jax.Array):
      raise ValueError(
        f"{name} is a {type(x).__name__}; it must be a jax.Array, as it lies on"
        " devices"
      )
    pair = _devices_apart(x)
    if pair is not None:
      differing.append(f"{name} differs between {pair[0]} and {pair[1]}")
  if differing:
    raise ValueError(
      f"{differing[0]} ({len(differing)} of {len(leaves)} arrays differ);"
      " replicas stay the same where the quantizer has axis_name, rngs are the"
      " same on all devices, and gradients are averaged over them"
    )


def _devices_apart(x: jax.Array) -> tuple[jax.Device, jax.Device] | None:
  """Returns two devices whose copies differ; None if there are none."""
  if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
    x = jax.random.key_data(x)
  num_devices = len(x.sharding.device_set)
  rows = x.shape[:1], x.sharding.shard_shape(x.shape)[:1]
  is_by_row = rows == ((num_devices,), (1,))
  first: dict[str, tuple[jax.Device, bytes]] = {}
  for shard in x.addressable_shards:
    part = "" if is_by_row else str(shard.index)
    copy = np.asarray(shard.data).tobytes()
    device, expected = first.setdefault(part, (shard.device, copy))
    if copy != expected:
      return device, shard.device
  return None
