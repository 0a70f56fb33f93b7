"""Several processes that train one model: TPU pods, clusters, one machine.

JAX's own runtime joins them.  All of them do the same things in the same
order; the main process alone writes files and says something.
"""

from collections.abc import Iterator
import contextlib
import os
import sys

import jax
from jax.experimental import multihost_utils
import numpy as np

from experiments.errors import one_line
from experiments.errors import UserError


def initialize(
  coordinator_address: str | None,
  num_processes: int | None,
  process_id: int | None,
  heartbeat_seconds: int,
) -> None:
  """Joins the processes of a run, before anything else asks JAX for devices.

  Without arguments it does what the environment says: a TPU pod, Slurm's
  `srun`, Open MPI's `mpirun`, or nothing of the kind.

  Args:
    coordinator_address: HOST:PORT of process 0.
    num_processes: how many there are.
    process_id: which this is, from 0 on.
    heartbeat_seconds: after which a silent process counts as lost, and the
      others end.

  Raises:
    UserError: if the arguments do not belong together, or nobody answers.
  """
  given = (coordinator_address, num_processes, process_id)
  if any(value is None for value in given):
    if any(value is not None for value in given):
      raise UserError(
        "--coordinator_address, --num_processes and --process_id belong"
        " together; give all three, or none"
      )
    if not _is_cluster():
      return
  elif not 0 <= process_id < num_processes:
    raise UserError(
      f"--process_id is {process_id}; it must be in [0, {num_processes}),"
      " less than --num_processes"
    )
  try:
    jax.distributed.initialize(
      *given, heartbeat_timeout_seconds=heartbeat_seconds
    )
  except (RuntimeError, ValueError) as error:
    raise UserError(
      f"the processes cannot be joined ({one_line(error)}); see that all of"
      " them start, with the same --coordinator_address=HOST:PORT of process 0"
      " and --num_processes, and each with its own --process_id"
    ) from error


def _is_cluster() -> bool:
  """Whether the environment is that of one of several processes."""
  # Slurm's number is of `srun` alone: a batch script has one process.
  counts = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")
  hosts = os.environ.get("TPU_WORKER_HOSTNAMES", "").split(",")
  return len(hosts) > 1 or any(
    int(os.environ.get(name, 1)) > 1 for name in counts
  )


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
  """Waits until all processes are here."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(name)


def any_process(flag: bool) -> bool:
  """Returns whether the flag is true in any process; all must ask."""
  if jax.process_count() == 1:
    return flag
  return bool(np.any(multihost_utils.process_allgather(np.array(flag))))


@contextlib.contextmanager
def speaking() -> Iterator[None]:
  """Silences the standard output of all processes but the main one.

  Where one of several is lost, so that the others cannot go on, they say so.
  """
  quiet = contextlib.nullcontext()
  if not is_main():
    quiet = contextlib.redirect_stdout(open(os.devnull, "w"))
  try:
    with quiet:
      yield
  except jax.errors.JaxRuntimeError as error:
    if jax.process_count() == 1:
      raise
    print(
      f"error: process {jax.process_index()} cannot go on with the others"
      f" ({one_line(error)}); if one of them was lost, start all of them again,"
      " and they go on from the latest checkpoint",
      file=sys.stderr,
      flush=True,
    )
    # Not sys.exit, which would wait for those that are lost.
    os._exit(UserError.exit_code)
