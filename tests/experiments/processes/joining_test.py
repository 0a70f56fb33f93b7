import faulthandler
import os
from unittest import mock

from absl.testing import parameterized
import jax
from jax._src.clusters import cloud_tpu_cluster
import requests

from experiments.errors import UserError
from experiments.processes import joining
from experiments.processes import platforms
from experiments.processes import sudden_end

_SLURM = {
  "SLURM_JOB_ID": "7",
  "SLURM_STEP_NODELIST": "node[1-2]",
  "SLURM_NTASKS": "2",
  "SLURM_STEP_NUM_TASKS": "2",
  "SLURM_PROCID": "1",
  "SLURM_LOCALID": "0",
}


_OPEN_MPI = {
  "OMPI_COMM_WORLD_SIZE": "4",
  "OMPI_COMM_WORLD_RANK": "3",
  "OMPI_COMM_WORLD_LOCAL_RANK": "1",
}


_URI = {"OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1:34911"}


# Of a Cloud TPU: nothing in the environment, all in Google's metadata.
_METADATA = {
  "agent-worker-number": "1",
  "worker-network-endpoints": "a:0:10.0.0.2,b:1:10.0.0.3",
  "tpu-env": "",
}


def initialize(environment, *given, metadata=None, on_tpu=False):
  """Returns what JAX is asked for, None if for nothing."""

  def get_metadata(key):
    if metadata is None:
      raise requests.ConnectionError
    return (metadata[key], 200) if key in metadata else ("", 404)

  with (
    mock.patch.dict(os.environ, environment, clear=True),
    mock.patch.object(cloud_tpu_cluster, "get_metadata", get_metadata),
    mock.patch.object(cloud_tpu_cluster, "running_in_cloud_tpu_vm", on_tpu),
    mock.patch.object(jax.distributed, "initialize") as asked,
    mock.patch.object(jax.config, "update"),
    mock.patch.object(faulthandler, "disable"),
    mock.patch.object(sudden_end, "announce"),
  ):
    joining.initialize(*(given or (None, None, None)), 30)
  return asked.call_args and asked.call_args.kwargs


class EnvironmentTest(parameterized.TestCase):
  def test_without_a_device_it_is_refused(self):
    missing = UserError("JAX_PLATFORMS is 'tpu'")
    with mock.patch.object(platforms, "check_platform", side_effect=missing):
      with self.assertRaisesRegex(UserError, "JAX_PLATFORMS is 'tpu'"):
        initialize({})

  @parameterized.named_parameters(
    ("slurm", _SLURM),
    ("open_mpi_4", _OPEN_MPI | _URI),
    ("gke", {"TPU_WORKER_HOSTNAMES": "a,b"}, True, {"tpu-env": ""}),
    ("cloud_tpu", {}, True, _METADATA),
    (
      "slices_of_one_host",
      {"TPU_WORKER_HOSTNAMES": "a", "MEGASCALE_NUM_SLICES": "2"},
      True,
      {},
    ),
  )
  def test_several_processes(self, environment, on_tpu=False, metadata=None):
    asked = initialize(environment, on_tpu=on_tpu, metadata=metadata)
    self.assertEqual(asked["heartbeat_timeout_seconds"], 30)
    # Nobody waits for longer for one that has gone.
    self.assertEqual(asked["shutdown_timeout_seconds"], 30)
    self.assertIsNone(asked["process_id"])  # JAX finds it

  @parameterized.named_parameters(
    ("nothing", {}),
    ("a_batch_script", {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "2"}),
    ("a_shell_of_slurm", _SLURM | {"SLURM_STEP_NUM_TASKS": "1"}),
    ("mpirun_of_one", _OPEN_MPI | _URI | {"OMPI_COMM_WORLD_SIZE": "1"}),
    ("one_tpu_host", {"TPU_WORKER_HOSTNAMES": "localhost"}, True, {}),
    ("a_notebook", {"TPU_WORKER_HOSTNAMES": "localhost"}, True),
    ("a_notebook_that_says_nothing", {}, True),
    (
      "one_cloud_tpu",
      {},
      True,
      _METADATA | {"worker-network-endpoints": "a:0:10.0.0.2"},
    ),
  )
  def test_one_process(self, environment, on_tpu=False, metadata=None):
    self.assertIsNone(initialize(environment, on_tpu=on_tpu, metadata=metadata))

  def test_plain_flags_leave_a_process_all_its_devices(self):
    asked = initialize(_SLURM, "node1:1234", 2, 1)
    self.assertEqual(asked["coordinator_address"], "node1:1234")
    self.assertEqual((asked["num_processes"], asked["process_id"]), (2, 1))
    self.assertEqual(asked["cluster_detection_method"], "deactivate")
    self.assertNotIn("local_device_ids", asked)

  def test_open_mpi_5_needs_the_address_alone(self):
    asked = initialize(_OPEN_MPI, "node1:1234", None, None)
    self.assertEqual((asked["num_processes"], asked["process_id"]), (4, 3))
    self.assertEqual(asked["local_device_ids"], [1])
    with self.assertRaisesRegex(UserError, "add --coordinator_address"):
      initialize(_OPEN_MPI)

  @parameterized.parameters(
    ("node1:1234", None, None),
    (None, 2, None),
    (None, 2, 0),
    ("node1:1234", None, 1),
  )
  def test_flags_belong_together(self, *given):
    with self.assertRaisesRegex(UserError, "belong together"):
      initialize({}, *given)

  @parameterized.parameters(2, 7)
  def test_a_process_that_there_is_not(self, process_id):
    with self.assertRaisesRegex(UserError, r"must be in \[0, 2\)"):
      initialize({}, "node1:1234", 2, process_id)
