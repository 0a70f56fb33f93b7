"""What several processes that train one model do together.

They may be those of a TPU pod, of a cluster, or of one machine.  All of them
do the same things in the same order; only the main process writes files and
prints.
"""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
from typing import Any

import flax
import jax
from jax.experimental import multihost_utils
import numpy as np
import orbax.checkpoint as ocp

from experiments.errors import UserError

_CHUNK = 2**26  # bytes that a device has of what goes from host to host
_A_DAY = 24 * 3600 * 1000  # milliseconds; preparing a data set may take long


def is_main() -> bool:
  """Returns whether this process writes files."""
  return jax.process_index() == 0


@contextlib.contextmanager
def main_first(name: str) -> Iterator[None]:
  """Runs the code inside in the main process first, then in the others."""
  if not is_main():
    barrier(name)
  yield
  if is_main():
    barrier(name)


def barrier(name: str) -> None:
  """Waits until all processes are here; a name may be used only once."""
  if jax.process_count() > 1:
    # Not a collective of devices, which may have limits of their own.
    ocp.multihost.get_barrier_sync_fn()(key=name, timeout_ms=_A_DAY)


def any_process(flag: bool) -> bool:
  """Returns whether the flag is true in any process; all must call it."""
  if jax.process_count() == 1:
    return flag
  return bool(np.any(multihost_utils.process_allgather(np.array(flag))))


def from_main(make: Callable[[], Any]) -> Any:
  """Returns in all processes what `make` returns in the main one.

  Args:
    make: is called in the main process alone; it returns what MessagePack can
      hold, which includes arrays.

  Raises:
    UserError: in all processes, if `make` raises one.
  """
  if jax.process_count() == 1:
    return make()
  made, failed = b"", False
  if is_main():
    try:
      made = flax.serialization.msgpack_serialize(make())
    except UserError as error:
      made, failed = str(error).encode(), True
  header = np.array([len(made), failed], np.int64).view(np.int32)
  header = multihost_utils.broadcast_one_to_all(header)
  size, failed = header.view(np.int64)
  # Integers: a sum with zeros, which this is, would lose the sign of -0.0.
  padded = np.zeros(-(-size // 4), np.uint32)
  if is_main():
    padded.view(np.uint8)[:size] = np.frombuffer(made, np.uint8)
  for start in range(0, len(padded), _CHUNK // 4):
    part = slice(start, start + _CHUNK // 4)
    padded[part] = multihost_utils.broadcast_one_to_all(padded[part])
  made = memoryview(padded.view(np.uint8))[:size]
  if failed:
    raise UserError(bytes(made).decode())
  return flax.serialization.msgpack_restore(made)


def own_part(x: np.ndarray) -> np.ndarray:
  """Returns this process's part `[k / processes, ...]` of `[k, ...]`."""
  size = len(x) // jax.process_count()
  return x[size * jax.process_index() :][:size]


def gather(x: np.ndarray) -> np.ndarray:
  """Returns `[k, ...]`, joined from the `own_part` of all processes.

  All processes must call it.
  """
  if jax.process_count() == 1:
    return x
  own_bytes = np.ascontiguousarray(x).reshape(-1).view(np.uint8)
  joined = np.empty((jax.process_count(), own_bytes.size), np.uint8)
  size = _CHUNK // len(joined)
  for start in range(0, own_bytes.size, size):
    part = slice(start, start + size)
    joined[:, part] = multihost_utils.process_allgather(own_bytes[part])
  return joined.reshape(-1).view(x.dtype).reshape(-1, *x.shape[1:])
