"""How the processes of a run find each other."""

import faulthandler
import os

import jax
from jax._src import clusters

from experiments.errors import one_line
from experiments.errors import UserError
from experiments.processes import platforms
from experiments.processes import sudden_end

# How JAX finds other processes; it has no public function for that.
_CLUSTERS = (
  clusters.OmpiCluster,
  clusters.SlurmCluster,
  clusters.GkeTpuCluster,
  clusters.GceTpuCluster,
)


def initialize(
  coordinator_address: str | None,
  num_processes: int | None,
  process_id: int | None,
  heartbeat_seconds: int,
) -> None:
  """Joins the processes of a run, before anything else asks JAX for devices.

  Without arguments the environment decides: that of a TPU pod, of Slurm's
  `srun`, of Open MPI's `mpirun`, or of a single process.

  Args:
    coordinator_address: HOST:PORT of process 0.  Under Open MPI it is enough.
    num_processes: the number of processes.
    process_id: the number of this process, from 0 on.
    heartbeat_seconds: the time after which a silent process counts as lost, and
      the others end.

  Raises:
    UserError: if the arguments do not belong together, the processes cannot be
      joined, or there is no device.
  """
  _join(coordinator_address, num_processes, process_id, heartbeat_seconds)
  platforms.check_platform()


def _join(
  coordinator_address: str | None,
  num_processes: int | None,
  process_id: int | None,
  heartbeat_seconds: int,
) -> None:
  """Joins the processes, as `initialize` describes it."""
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
    # Otherwise Slurm, say, would leave each process one device.
    given["cluster_detection_method"] = "deactivate"
  elif not _is_cluster():
    return
  # That service would take SIGTERM from `signals`.
  jax.config.update("jax_enable_preemption_service", False)
  # A CPU would start collectives that need not wait for each other in one
  # order here and in another there.
  jax.config.update("jax_cpu_enable_async_dispatch", False)
  # JAX aborts a process when another is lost, and says why by itself.
  faulthandler.disable()
  sudden_end.announce()
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
  """Returns whether the environment is that of one of several processes."""
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
  """Returns what Open MPI of any version says to each of its processes."""
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
