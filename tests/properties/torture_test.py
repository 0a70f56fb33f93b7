"""A run that is killed again and again ends as one that never was."""

import os
import pathlib
import signal
import subprocess
import time

from absl.testing import parameterized
import chex
import numpy as np
import pytest

from experiments.runs import checkpoints
from experiments.runs import metric_log
from experiments.runs import workdir as workdirs
from tests.support import tiny

_KILLS = 5
_FIELDS = {
  "num_steps": 360,
  "batch_size": 16,
  "data.image_size": 16,
  "model.features": 8,
  "model.network": "cnn",
  "log_every": 5,
  "eval_every": 100,
  "checkpoint_every": 5,  # so that many die while they save
  "gradient_gap_every": 10,
  "rate_examples": 40,
  "quantizer.placement.init": "data",
  "quantizer.placement.revive_below": 0.2,
}


def step_of(workdir):
  """Returns the last step that a run's log has."""
  lines = metric_log.read_metrics(workdir)
  return lines[-1]["step"] if lines else 0


@pytest.mark.slow
class TortureTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.create_tempdir())

  def start(self, workdir):
    command = tiny.command(workdir, _FIELDS)
    cache = {"JAX_COMPILATION_CACHE_DIR": str(self.root / "cache")}
    return subprocess.Popen(
      command,
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
      env={**os.environ, **cache, "NPROC": "16"},
    )

  def finish(self, workdir):
    process = self.start(workdir)
    output, _ = process.communicate(timeout=600)
    self.assertEqual(process.returncode, 0, output)
    return output

  def wait(self, process, workdir, last_step, seconds=600.0):
    """Waits until the run has come to a step, or for so many seconds.

    Machines are faster or slower from one minute to the next.  Without
    `last_step` a run might end before the kills do.
    """
    end = time.monotonic() + seconds
    while step_of(workdir) < last_step and time.monotonic() < end:
      self.assertIsNone(process.poll())
      time.sleep(0.02)

  def test_killed_at_random_moments(self):
    rng = np.random.default_rng(int.from_bytes(b"torture"))
    self.finish(self.root / "whole")
    workdir = self.root / "killed"
    # How long it takes to the first step, compiled programs being cached.
    process, started = self.start(workdir), time.monotonic()
    self.wait(process, workdir, 1)
    startup = time.monotonic() - started
    steps = []
    share = _FIELDS["num_steps"] // (_KILLS + 1)
    for kill in range(_KILLS):
      if kill:
        process = self.start(workdir)
        last_step = (kill + 1) * share
        if kill % 3:
          seconds = rng.uniform(0, 1.3) * startup
          self.wait(process, workdir, last_step, seconds)
        else:  # it gets further, however slow the machine is by now
          further = step_of(workdir) + rng.integers(1, share)
          self.wait(process, workdir, min(further, last_step))
      # The last one asks; the others do not.
      process.send_signal(
        signal.SIGTERM if kill == _KILLS - 1 else signal.SIGKILL
      )
      output, _ = process.communicate(timeout=300)
      self.assertIn(process.returncode, (-signal.SIGKILL, 75, -15), output)
      if process.returncode == 75:
        self.assertRegex(
          output, r"(^|\n)stopped: .*SIGTERM.* go on with the same command\n$"
        )
      self.assertNotIn("damaged", output)
      steps.append(step_of(workdir))
    self.assertGreater(len(set(steps)), 1, steps)
    output = self.finish(workdir)
    self.assertNotIn("damaged", output)
    self.assertEqual(tiny.logged(workdir), tiny.logged(self.root / "whole"))
    states = [
      checkpoints.load_state(workdirs.read_config(path), path)[1]
      for path in (workdir, self.root / "whole")
    ]
    chex.assert_trees_all_equal(*states)
    self.assertFalse((workdir / "damaged").exists())
