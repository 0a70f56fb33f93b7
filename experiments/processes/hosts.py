"""Several processes that train one model: TPU pods, clusters, one machine.

JAX's own runtime joins them.  All of them do the same things in the same
order; the main process alone writes files and says something.
"""

import atexit
from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import faulthandler
import logging
import os
import subprocess
import sys
from typing import Any

import flax
import jax
from jax._src import clusters
from jax.experimental import multihost_utils
import numpy as np
import orbax.checkpoint as ocp

from experiments.errors import one_line
from experiments.errors import UserError

# How JAX finds out about other processes; what it finds is private to it.
_CLUSTERS = (
  clusters.OmpiCluster,
  clusters.SlurmCluster,
  clusters.GkeTpuCluster,
  clusters.GceTpuCluster,
)
_CHUNK = 2**26  # bytes that a device has of what goes from host to host
_A_DAY = 24 * 3600 * 1000  # milliseconds; preparing a data set may take long
_SUDDEN_END = (
  "error: this process, one of several, has come to a sudden end: killed, or"
  " because another was lost or never started; start all of them again, and"
  " they go on from the latest checkpoint"
)
_mourners: list[subprocess.Popen] = []


def initialize(
  coordinator_address: str | None,
  num_processes: int | None,
  process_id: int | None,
  heartbeat_seconds: int,
) -> None:
  """Joins the processes of a run, before anything else asks JAX for devices.

  Then there are devices, or a UserError says that there are none.

  Without arguments it does what the environment says: a TPU pod, Slurm's
  `srun`, Open MPI's `mpirun`, or nothing of the kind.

  Args:
    coordinator_address: HOST:PORT of process 0.  Under Open MPI it is enough.
    num_processes: how many there are.
    process_id: which this is, from 0 on.
    heartbeat_seconds: after which a silent process counts as lost, and the
      others end.

  Raises:
    UserError: if the arguments do not belong together, or nobody answers.
  """
  _join(coordinator_address, num_processes, process_id, heartbeat_seconds)
  check_platform()


def check_platform() -> None:
  """Raises a UserError if JAX has no device of the platform that is asked for.

  Of what goes wrong it names the variable that asks for it, JAX_PLATFORMS.
  """
  reasons = []
  try:
    with _keeping(reasons):
      jax.devices()
  except jax.errors.JaxRuntimeError:
    raise  # of processes that do not find each other
  # JAX asserts that it has some where it skips all that are asked for.
  except (AssertionError, RuntimeError) as error:
    wanted = jax.config.jax_platforms
    why = "; ".join(reasons) or one_line(error)
    raise UserError(
      f"JAX_PLATFORMS is {wanted!r}, but JAX has no device of that kind"
      f" ({why}); unset it, or install JAX for that device"
    ) from error
  for reason in reasons:
    print(f"warning: JAX goes without a device: {reason}", file=sys.stderr)


@contextlib.contextmanager
def _keeping(reasons: list[str]) -> Iterator[None]:
  """Collects why plugins of JAX fail, which it would log with a traceback."""

  def keep(record: logging.LogRecord) -> bool:
    if record.exc_info:
      reasons.append(one_line(record.exc_info[1]))
    return not record.exc_info

  logger = logging.getLogger("jax._src.xla_bridge")
  logger.addFilter(keep)
  try:
    yield
  finally:
    logger.removeFilter(keep)


def _join(
  coordinator_address: str | None,
  num_processes: int | None,
  process_id: int | None,
  heartbeat_seconds: int,
) -> None:
  """Does what `initialize` says."""
  given = {
    "coordinator_address": coordinator_address,
    "num_processes": num_processes,
    "process_id": process_id,
  }
  if coordinator_address and num_processes is None and process_id is None:
    given |= _of_open_mpi()
  if any(value is not None for value in given.values()):
    if any(value is None for value in given.values()):
      raise UserError(
        "--coordinator_address, --num_processes and --process_id belong"
        " together; give all three, or none"
      )
    if not 0 <= given["process_id"] < given["num_processes"]:
      raise UserError(
        f"--process_id is {given['process_id']}; it must be in [0,"
        f" {given['num_processes']}), less than --num_processes"
      )
    # Or Slurm, say, would leave each process one device.
    given["cluster_detection_method"] = "deactivate"
  elif not _is_cluster():
    return
  # It would take SIGTERM from `signals`.
  jax.config.update("jax_enable_preemption_service", False)
  # A CPU would start collectives that need not wait for each other in one
  # order here and in another there.
  jax.config.update("jax_cpu_enable_async_dispatch", False)
  # JAX ends a process by abort when another is lost; it says why.
  faulthandler.disable()
  _say_at_sudden_end()
  try:
    jax.distributed.initialize(
      **given,
      heartbeat_timeout_seconds=heartbeat_seconds,
      shutdown_timeout_seconds=heartbeat_seconds,
    )
  except (RuntimeError, ValueError) as error:
    raise UserError(
      f"the processes cannot be joined ({one_line(error)}); see that all of"
      " them start, with the same --coordinator_address=HOST:PORT of process 0"
      " and --num_processes, and each with its own --process_id"
    ) from error


def _is_cluster() -> bool:
  """Whether the environment is that of one of several processes."""
  if os.environ.get("SLURM_STEP_NUM_TASKS") == "1":
    return False  # a shell, in a job that may have room for more
  try:
    for cluster in _CLUSTERS:
      if cluster.is_env_present():
        return cluster.get_process_count() > 1
  except OSError:  # a TPU without Google's metadata: a notebook's
    return False
  if int(os.environ.get("OMPI_COMM_WORLD_SIZE", 1)) > 1:
    raise UserError(
      "Open MPI from version 5 on does not tell where process 0 is; add"
      " --coordinator_address=HOST:PORT"
    )
  return False


def _of_open_mpi() -> dict[str, object]:
  """What Open MPI of any version tells each of its processes."""
  try:
    size, rank, local_rank = (
      int(os.environ[f"OMPI_COMM_WORLD_{name}"])
      for name in ("SIZE", "RANK", "LOCAL_RANK")
    )
  except KeyError:
    return {}
  # One GPU each, as JAX does it for Slurm and older versions.
  return {
    "num_processes": size,
    "process_id": rank,
    "local_device_ids": [local_rank],
  }


def _say_at_sudden_end() -> None:
  """Has something said should this process end without a chance to."""
  mourner = subprocess.Popen(
    ["sh", "-c", 'read -r _ || echo "$0" >&2', _SUDDEN_END],
    stdin=subprocess.PIPE,
    start_new_session=True,  # Ctrl-C is not for it
  )
  _mourners.append(mourner)
  atexit.register(_silence)


def _silence() -> None:
  for mourner in _mourners:
    with contextlib.suppress(OSError):
      mourner.communicate(b"\n")
  _mourners.clear()


def is_main() -> bool:
  """Returns whether this process writes files."""
  return jax.process_index() == 0


@contextlib.contextmanager
def main_first(name: str) -> Iterator[None]:
  """Lets the others in when the main process is done with what is inside."""
  if not is_main():
    barrier(name)
  yield
  if is_main():
    barrier(name)


def barrier(name: str) -> None:
  """Waits until all processes are here, which each name serves once."""
  if jax.process_count() > 1:
    # Not a collective of devices, which may have limits of their own.
    ocp.multihost.get_barrier_sync_fn()(key=name, timeout_ms=_A_DAY)


def any_process(flag: bool) -> bool:
  """Returns whether the flag is true in any process; all must ask."""
  if jax.process_count() == 1:
    return flag
  return bool(np.any(multihost_utils.process_allgather(np.array(flag))))


def from_main(make: Callable[[], Any]) -> Any:
  """Returns in all processes what the main one makes; its UserError too.

  It makes what MessagePack has, arrays among it.
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


def own(x: np.ndarray) -> np.ndarray:
  """Returns this process's part `[k / processes, ...]` of `[k, ...]`."""
  size = len(x) // jax.process_count()
  return x[size * jax.process_index() :][:size]


def gather(x: np.ndarray) -> np.ndarray:
  """Returns what `own` took apart; all processes must ask."""
  if jax.process_count() == 1:
    return x
  own_bytes = np.ascontiguousarray(x).reshape(-1).view(np.uint8)
  whole = np.empty((jax.process_count(), own_bytes.size), np.uint8)
  size = _CHUNK // len(whole)
  for start in range(0, own_bytes.size, size):
    part = slice(start, start + size)
    whole[:, part] = multihost_utils.process_allgather(own_bytes[part])
  return whole.reshape(-1).view(x.dtype).reshape(-1, *x.shape[1:])


@contextlib.contextmanager
def speaking() -> Iterator[None]:
  """Silences the standard output of all processes but the main one.

  Where one of several is lost, so that the others cannot go on, they say so.
  """
  with contextlib.ExitStack() as stack:
    if not is_main():
      nowhere = stack.enter_context(open(os.devnull, "w"))
      stack.enter_context(contextlib.redirect_stdout(nowhere))
    try:
      yield
    except jax.errors.JaxRuntimeError as error:
      if jax.process_count() == 1:
        raise
      print(
        f"error: process {jax.process_index()} cannot go on with the others"
        f" ({one_line(error)}); if one of them was lost, start all of them"
        " again, and they go on from the latest checkpoint",
        file=sys.stderr,
        flush=True,
      )
      _silence()
      # Not sys.exit, which would wait for those that are lost.
      os._exit(UserError.exit_code)
