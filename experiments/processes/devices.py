"""Which devices a run uses, and how arrays get there and back."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
import math
from typing import Any

import flax
import jax
from jax.experimental import multihost_utils
import numpy as np

from experiments.errors import UserError
from experiments.processes import hosts

AXIS = "devices"  # of everything that is mapped over them


def choose_devices(batch_size: int, sharded_size: int = 0) -> list[jax.Device]:
  """Returns the largest number of local devices that divides the batch.

  Args:
    batch_size: the size of the global batch.
    sharded_size: a number of codewords that must be divided too; 0 where they
      are not sharded.

  Raises:
    UserError: if there are several processes, and the number of all their
      devices does not divide both.
  """
  devices = sorted(jax.local_devices(), key=_order)
  if jax.process_count() > 1:
    count = jax.device_count()
    for name, size in (
      ("config.batch_size", batch_size),
      ("the number of codewords to shard", sharded_size),
    ):
      if size % count:
        raise UserError(
          f"{name} is {size}; it must be a multiple of the {count} devices of"
          f" the {jax.process_count()} processes"
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
  """Returns the devices of all processes, given those of this process.

  The devices of a process are side by side, in the order of `choose_devices`.
  """
  if jax.process_count() == 1:
    return list(devices)
  return sorted(jax.devices(), key=_order)


def _order(device: jax.Device) -> tuple[int, int]:
  return device.process_index, device.id


def replicate(tree: Any, devices: Sequence[jax.Device]) -> Any:
  """Copies arrays to all devices, `[...]` -> `[devices, ...]`."""
  # Copied on the host, where no program is compiled for every shape.  They must
  # be copies, since a step may overwrite its arguments.
  copies = jax.tree.map(lambda x: np.stack([x] * len(devices)), tree)
  return jax.device_put(copies, _over(devices))


def place_parts(tree: Any, devices: Sequence[jax.Device]) -> Any:
  """Gives each device its part of arrays of the host.

  Args:
    tree: arrays `[n, ...]`, with n the number of devices of all processes.
    devices: the devices of this process.

  Returns:
    This process's parts, `[devices, ...]`.
  """
  return jax.device_put(
    jax.tree.map(lambda x: hosts.own_part(np.asarray(x)), tree), _over(devices)
  )


def gather_parts(tree: Any) -> list[Any]:
  """Returns the part of each device of all processes, in their order.

  It undoes `place_parts`.  All processes must call it.
  """
  gathered = jax.tree.map(lambda x: hosts.gather(np.asarray(x)), tree)
  count = len(jax.tree.leaves(gathered)[0])
  return [jax.tree.map(lambda x, i=i: x[i], gathered) for i in range(count)]


def create_parts(
  create: Callable[[int], Any], devices: Sequence[jax.Device]
) -> Any:
  """Creates arrays on devices, each of which makes only its own part.

  Args:
    create: is compiled and called with n, the number of devices of all
      processes; it returns the arrays, `[n, ...]`.
    devices: the devices of this process.

  Returns:
    This process's parts, `[devices, ...]`.
  """
  everywhere = of_all_processes(devices)
  sharding = _over(everywhere)
  made = jax.jit(create, static_argnums=0, out_shardings=sharding)(
    len(everywhere)
  )
  if jax.process_count() == 1:
    return made
  return multihost_utils.global_array_to_host_local_array(
    made, sharding.mesh, sharding.spec
  )


def _over(devices: Sequence[jax.Device]) -> jax.NamedSharding:
  """The sharding of arrays `[devices, ...]` that are mapped."""
  # Under another name for the axis, a step that returns such arrays would be
  # compiled a second time when it gets them back.
  mesh = jax.sharding.Mesh(np.array(devices), (AXIS,))
  return jax.NamedSharding(mesh, jax.P(AXIS))


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


def unshard(x: jax.Array) -> np.ndarray:
  """Joins what `shard` cut, or the results of devices for it."""
  return np.asarray(x).reshape(-1, *x.shape[2:])


def prefetch(
  batches: Iterable[np.ndarray],
  devices: Sequence[jax.Device],
  steps_per_call: int = 1,
) -> Iterator[jax.Array]:
  """Yields the batches, cut for the devices and two calls ahead on them."""
  shards = (shard(batch, len(devices)) for batch in batches)
  ahead = 2 * steps_per_call
  return flax.jax_utils.prefetch_to_device(shards, ahead, devices, AXIS)
