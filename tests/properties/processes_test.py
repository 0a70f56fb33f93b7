"""Two processes of four devices each, through what may happen to them."""

import os
import pathlib
import re
import signal
import socket
import subprocess
import tempfile
import time

from absl.testing import parameterized
import chex
import numpy as np
import pytest

from experiments.runs import checkpoints
from experiments.runs import metric_log
from experiments.runs import workdir as workdirs
from tests.support import tiny

_HEARTBEAT = 10  # seconds
_FIELDS = {
  "num_steps": 24,
  "batch_size": 16,
  "data.image_size": 16,
  "model.features": 8,
  "model.network": "cnn",
  "log_every": 1,
  "eval_every": 12,
  "checkpoint_every": 4,
  "gradient_gap_every": 12,
  "rate_examples": 40,
  "quantizer.placement.init": "data",
  "quantizer.placement.revive_below": 0.2,
  "quantizer.update.decay": 0.5,  # so that codewords die soon
  "check_replicas": True,
}


def training_lines(workdir):
  lines = metric_log.read_metrics(workdir)
  return [line for line in lines if "loss" in line["values"]]


def steps_logged(workdir):
  return [line["step"] for line in training_lines(workdir)]


def train_mse(workdir):
  return [line["values"]["mse"] for line in training_lines(workdir)]


def final_state(workdir):
  return checkpoints.load_state(workdirs.read_config(workdir), workdir)[1]


class _Processes:
  """Of one run, all of them or but one."""

  def __init__(self, workdir, count, **fields):
    self.workdir = workdir
    with socket.socket() as some:
      some.bind(("127.0.0.1", 0))
      port = some.getsockname()[1]
    command = tiny.command(workdir, _FIELDS | fields)
    environment = {
      **os.environ,
      "JAX_NUM_CPU_DEVICES": str(8 // count),
      "NPROC": "16",
    }
    self._outputs, self._processes = [], []
    for i in range(count):
      of_many = [
        f"--coordinator_address=127.0.0.1:{port}",
        f"--num_processes={count}",
        f"--process_id={i}",
        f"--heartbeat_seconds={_HEARTBEAT}",
      ]
      self._outputs.append(tempfile.TemporaryFile("w+"))
      self._processes.append(
        subprocess.Popen(
          [*command, *(of_many if count > 1 else [])],
          stdout=self._outputs[-1],
          stderr=subprocess.STDOUT,
          env=environment,
        )
      )

  def wait_for_step(self, step):
    while not (steps_logged(self.workdir) or [0])[-1] >= step:
      if any(process.poll() is not None for process in self._processes):
        raise AssertionError(self.wait())
      time.sleep(0.02)

  def send(self, number, *which):
    for i in which:
      self._processes[i].send_signal(number)

  def wait(self, timeout=300):
    """Returns exit codes and what was said."""
    try:
      codes = [process.wait(timeout) for process in self._processes]
    finally:
      for process in self._processes:
        process.kill()
    said = []
    time.sleep(0.5)  # for what is said when a process has ended
    for output in self._outputs:
      output.seek(0)
      said.append(output.read())
      output.close()
    return codes, said


@pytest.mark.slow
class ProcessesTest(parameterized.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    directory = tempfile.TemporaryDirectory()
    cls.addClassCleanup(directory.cleanup)
    cls.root = pathlib.Path(directory.name)
    cls.whole = cls.root / "whole"
    codes, said = _Processes(cls.whole, 2).wait()
    assert codes == [0, 0], said
    cls.said = said

  def test_the_main_process_alone_speaks_and_writes(self):
    main, other = self.said
    self.assertIn("step 24/24", main)
    self.assertIn("on 8 x cpu", main)
    of_jax = [line for line in other.splitlines() if line.startswith("[Gloo]")]
    self.assertEqual(other.splitlines(), of_jax)
    self.assertEqual(steps_logged(self.whole), list(range(1, 25)))
    self.assertLen(list((self.whole / "tensorboard").iterdir()), 1)
    self.assertTrue((self.whole / "reconstructions.png").exists())

  def test_one_process_with_as_many_devices_learns_the_same(self):
    workdir = self.root / "one"
    codes, said = _Processes(workdir, 1).wait()
    self.assertEqual(codes, [0], said)
    for one, two in zip(
      tiny.logged(workdir), tiny.logged(self.whole), strict=True
    ):
      self.assertEqual((one["step"], one["split"]), (two["step"], two["split"]))
      # Sums over devices are taken in another order where there are processes.
      name = "mse"
      if name in one["values"]:
        np.testing.assert_allclose(
          one["values"][name], two["values"][name], rtol=1e-3
        )

  def test_codewords_that_they_share_out(self):
    fields = {"quantizer.shard_codebook": True, "num_steps": 12}
    workdir = self.root / "sharded"
    run = _Processes(workdir, 2, **fields)
    while 4 not in workdirs.steps_of(workdir):
      run.wait_for_step(4)
    run.send(signal.SIGKILL, 0, 1)
    run.wait()
    codes, said = _Processes(workdir, 2, **fields).wait()
    self.assertEqual(codes, [0, 0], said)
    self.assertRegex(said[0], "Resuming .* at step [48]")
    config = workdirs.read_config(workdir)
    state = checkpoints.read_state(config, workdir)
    self.assertLen(state.codebook, 8)

    with self.subTest("never killed"):
      whole = self.root / "sharded_whole"
      codes, said = _Processes(whole, 2, **fields).wait()
      self.assertEqual(codes, [0, 0], said)
      self.assertEqual(tiny.logged(workdir), tiny.logged(whole))
      chex.assert_trees_all_equal(state, checkpoints.read_state(config, whole))

    with self.subTest("one process goes on"):
      fields["num_steps"] = 14
      codes, said = _Processes(workdir, 1, **fields).wait()
      self.assertEqual(codes, [0], said)
      self.assertIn("at step 12", said[0])

    with self.subTest("whole codebooks learn the same"):
      np.testing.assert_allclose(
        train_mse(whole), train_mse(self.whole)[:12], rtol=1e-3
      )

  def test_whatever_ends_them_they_go_on_and_end_as_if_nothing_had(self):
    workdir = self.root / "ended"

    with self.subTest("both are killed"):
      run = _Processes(workdir, 2)
      run.wait_for_step(5)
      run.send(signal.SIGKILL, 0, 1)
      codes, _ = run.wait()
      self.assertEqual(codes, [-signal.SIGKILL] * 2)

    for victim, step in ((1, 9), (0, 13)):
      with self.subTest("one is lost", victim=victim):
        run = _Processes(workdir, 2)
        run.wait_for_step(step)
        run.send(signal.SIGKILL, victim)
        started = time.monotonic()
        codes, said = run.wait(timeout=4 * _HEARTBEAT)
        self.assertLess(time.monotonic() - started, 4 * _HEARTBEAT)
        self.assertNotIn(codes[1 - victim], (0, 75))
        *_, last = said[1 - victim].strip().splitlines()
        self.assertRegex(
          last,
          "^error: .*process.*lost.*start all of them again.*go on from the"
          " latest checkpoint$",
        )

    with self.subTest("one is asked to stop"):
      run = _Processes(workdir, 2)
      run.wait_for_step(17)
      run.send(signal.SIGTERM, 1)
      codes, said = run.wait()
      self.assertEqual(codes, [75, 75], said)
      stopped = [
        re.search(
          r"^stopped: by .* after step (\d+) of 24, saved in .*", text, re.M
        )
        for text in said
      ]
      self.assertEqual(stopped[0][1], stopped[1][1])
      self.assertIn("by another process", said[0])
      self.assertIn("by SIGTERM", said[1])

    run = _Processes(workdir, 2)
    codes, said = run.wait()
    self.assertEqual(codes, [0, 0], said)
    self.assertIn(f"at step {stopped[0][1]}", said[0])
    self.assertEqual(tiny.logged(workdir), tiny.logged(self.whole))
    chex.assert_trees_all_equal(final_state(workdir), final_state(self.whole))
    self.assertFalse((workdir / "damaged").exists())
