"""Which accelerators a run uses."""

from typing import Any

import jax


def choose_devices(batch_size: int) -> list[jax.Device]:
  """Returns the largest number of local devices that divides the batch."""
  devices = jax.local_devices()
  count = max(n for n in range(1, len(devices) + 1) if batch_size % n == 0)
  if count < len(devices):
    print(
      f"Using {count} of {len(devices)} devices, the largest number that"
      f" divides config.batch_size, {batch_size}"
    )
  return devices[:count]


def unreplicate(tree: Any) -> Any:
  """Returns the first device's part of arrays `[devices, ...]`.

  (Flax's own keeps the axis where one device of several is used.)
  """
  return jax.tree.map(
    lambda x: x.addressable_shards[0].data.reshape(x.shape[1:]), tree
  )
