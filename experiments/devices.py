"""Which accelerators a run uses, and how arrays get there and back."""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import flax
import jax
import numpy as np

from experiments.errors import UserError

AXIS = "devices"  # of everything that is mapped over them


def choose_devices(batch_size: int) -> list[jax.Device]:
  """Returns the largest number of local devices that divides the batch.

  Raises:
    UserError: if there are several processes, and the number of all their
      devices does not divide the batch.
  """
  devices = jax.local_devices()
  if jax.process_count() > 1:
    if batch_size % jax.device_count():
      raise UserError(
        f"config.batch_size is {batch_size}; it must be a multiple of the"
        f" {jax.device_count()} devices of the {jax.process_count()} processes"
      )
    return devices
  count = max(n for n in range(1, len(devices) + 1) if batch_size % n == 0)
  if count < len(devices):
    print(
      f"Using {count} of {len(devices)} devices, the largest number that"
      f" divides config.batch_size, {batch_size}"
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
