import contextlib
import faulthandler
import io
import logging
import os
from unittest import mock

from absl.testing import parameterized
import chex
import jax
from jax._src.clusters import cloud_tpu_cluster
from jax.experimental import multihost_utils
import numpy as np
import requests

from experiments.errors import UserError
from experiments.processes import hosts

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
    mock.patch.object(hosts, "_say_at_sudden_end"),
  ):
    hosts.initialize(*(given or (None, None, None)), 30)
  return asked.call_args and asked.call_args.kwargs


class EnvironmentTest(parameterized.TestCase):
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


class PlatformTest(parameterized.TestCase):
  @parameterized.parameters(
    RuntimeError("Unable to initialize backend 'cuda':\n no plugin"),
    AssertionError(),
  )
  def test_a_platform_that_there_is_not(self, failure):
    with mock.patch.object(jax, "devices", side_effect=failure):
      with self.assertRaisesRegex(
        UserError,
        "^JAX_PLATFORMS is 'cpu', but JAX has no .*; unset it",
      ):
        initialize({})

  @parameterized.parameters(True, False)
  def test_a_plugin_that_fails_is_told_of_in_a_line(self, is_asked_for):
    logger = logging.getLogger("jax._src.xla_bridge")

    def find_devices():
      try:
        raise RuntimeError("Unable to load\ncuDNN")
      except RuntimeError:
        logger.exception("Jax plugin configuration error")
      if is_asked_for:
        raise AssertionError

    errors = io.StringIO()
    with (
      mock.patch.object(jax, "devices", find_devices),
      self.assertNoLogs(logger),
      contextlib.redirect_stderr(errors),
    ):
      if is_asked_for:
        with self.assertRaisesRegex(
          UserError, r"\(Unable to load cuDNN\); unset"
        ):
          initialize({})
      else:
        initialize({})
    if not is_asked_for:
      self.assertEqual(
        errors.getvalue(),
        "warning: JAX goes without a device: Unable to load cuDNN\n",
      )


class SeveralProcessesTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.enter_context(mock.patch.object(jax, "process_count", lambda: 2))
    self.enter_context(mock.patch.object(hosts, "_CHUNK", 64))

  def in_process(self, index, function, **collective):
    ((name, does),) = collective.items()
    with (
      mock.patch.object(jax, "process_index", lambda: index),
      mock.patch.object(multihost_utils, name, does),
    ):
      return function()

  def test_what_the_main_one_makes_goes_in_chunks(self):
    made = {"zero": np.float32(-0.0) * np.ones(3), "x": np.arange(100.0)}
    sent = []

    def send(x):
      self.assertLessEqual(x.nbytes, 64)
      sent.append(x.copy())
      return sent[-1]

    def receive(x):
      chunk = sent.pop(0)
      chex.assert_equal_shape([chunk, x])
      return chunk

    def from_main():
      return hosts.from_main(lambda: made)

    self.in_process(0, from_main, broadcast_one_to_all=send)
    self.assertGreater(len(sent), 13)
    got = self.in_process(1, from_main, broadcast_one_to_all=receive)
    self.assertEmpty(sent)
    chex.assert_trees_all_equal(got, made)
    self.assertTrue(np.signbit(got["zero"]).all())

  @parameterized.parameters((np.float64, (6, 5)), (bool, (8,)), (int, (0, 3)))
  def test_parts_come_together_in_chunks(self, dtype, shape):
    whole = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    parts = [
      self.in_process(i, lambda: hosts.own(whole), process_allgather=None)
      for i in range(2)
    ]
    chex.assert_shape(parts, (shape[0] // 2, *shape[1:]))
    sent = [[], []]
    for i, part in enumerate(parts):

      def send(x, i=i):
        self.assertLessEqual(2 * x.nbytes, 64)
        sent[i].append(x)
        return np.stack([x, x])

      self.in_process(
        i, lambda part=part: hosts.gather(part), process_allgather=send
      )
    chunks = iter(zip(*sent, strict=True))
    got = self.in_process(
      0,
      lambda: hosts.gather(parts[0]),
      process_allgather=lambda x: np.stack(next(chunks)),
    )
    self.assertEqual(got.dtype, whole.dtype)
    np.testing.assert_array_equal(got, whole)


class OneProcessTest(parameterized.TestCase):
  def test_needs_nobody(self):
    hosts.barrier("alone")
    self.assertTrue(hosts.is_main())
    self.assertTrue(hosts.any_process(True))
    self.assertFalse(hosts.any_process(False))
    self.assertEqual(hosts.from_main(lambda: b"made"), b"made")
    np.testing.assert_array_equal(hosts.gather(hosts.own(np.eye(3))), np.eye(3))
