"""Which accelerators a run uses, and how arrays get there and back."""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
import math
from typing import Any

import flax
import jax
import numpy as np

from experiments.errors import UserError

AXIS = "devices"  # of everything that is mapped over them


def choose_devices(batch_size: int, sharded_size: int = 0) -> list[jax.Device]:
  """Returns the largest number of local devices that divides the batch.

  Args:
    batch_size: of the whole batch.
    sharded_size: a number of codewords that it has to divide too; 0 where they
      are not shared out.

  Raises:
    UserError: if there are several processes, and the number of all their
      devices does not divide the batch, or codewords are shared out.
  """
  devices = jax.local_devices()
  if jax.process_count() > 1:
    if sharded_size:
      raise UserError(
        "config.quantizer.shard_codebook is True; checkpoints are written by"
        " one process, so it must be False where there are several"
      )
    if batch_size % jax.device_count():
      raise UserError(
        f"config.batch_size is {batch_size}; it must be a multiple of the"
        f" {jax.device_count()} devices of the {jax.process_count()} processes"
      )
    return devices
  common = math.gcd(batch_size, sharded_size)
  count = max(n for n in range(1, len(devices) + 1) if common % n == 0)
  if count < len(devices):
    codewords = f", and {sharded_size} codewords" if sharded_size else ""
    print(
      f"Using {count} of {len(devices)} devices, the largest number that"
      f" divides config.batch_size, {batch_size}{codewords}"
    )
  return devices[:count]


def of_all_processes(devices: Sequence[jax.Device]) -> list[jax.Device]:
  """Returns the devices of all processes that work with these of this one."""
  return jax.devices() if jax.process_count() > 1 else list(devices)


def replicate(tree: Any, devices: Sequence[jax.Device]) -> Any:
  """Copies arrays to all devices, `[...]` -> `[devices, ...]`."""
  # Under another name for the axis, a step that returns such arrays would be
  # compiled a second time when it gets them back.
  return flax.jax_utils.replicate(tree, devices, AXIS)


def spread(tree: Any, devices: Sequence[jax.Device]) -> Any:
  """Gives each device its part of arrays `[devices, ...]` of the host."""
  return jax.device_put(tree, over(devices))


def over(devices: Sequence[jax.Device]) -> jax.NamedSharding:
  """Returns the sharding of arrays `[devices, ...]` that are mapped."""
  mesh = jax.sharding.Mesh(np.array(devices), (AXIS,))
  return jax.NamedSharding(mesh, jax.P(AXIS))


def parts(tree: Any) -> list[Any]:
  """Returns what each device has of arrays `[devices, ...]`, in order."""
  leaves, structure = jax.tree.flatten(tree)
  shards = [
    sorted(leaf.addressable_shards, key=lambda shard: shard.index[0].start or 0)
    for leaf in leaves
  ]
  return [
    structure.unflatten(
      [
        shard.data.reshape(leaf.shape[1:])
        for leaf, shard in zip(leaves, of_device, strict=True)
      ]
    )
    for of_device in zip(*shards, strict=True)
  ]


def unreplicate(tree: Any) -> Any:
  """Returns the first device's part of arrays `[devices, ...]`.

  (Flax's own keeps the axis where one device of several is used.)
  """
  return jax.tree.map(
    lambda x: x.addressable_shards[0].data.reshape(x.shape[1:]), tree
  )


def shard(batch: np.ndarray, num_devices: int) -> np.ndarray:
  """Cuts a batch `[B, ...]` into `[num_devices, B / num_devices, ...]`."""
  return batch.reshape(num_devices, -1, *batch.shape[1:])


def prefetch(
  batches: Iterable[np.ndarray],
  devices: Sequence[jax.Device],
  steps_per_call: int = 1,
) -> Iterator[jax.Array]:
  """Yields the batches, cut for the devices and two calls ahead on them."""
  shards = (shard(batch, len(devices)) for batch in batches)
  ahead = 2 * steps_per_call
  return flax.jax_utils.prefetch_to_device(shards, ahead, devices, AXIS)
