import os
import pathlib
import signal
import subprocess
import sys
import time

from absl.testing import parameterized
import pytest

from experiments.study.trials import Trial

# The table of two small codebooks.
_PROGRAM = """
import sys
from absl import app, flags
from experiments.study import paper
for table in paper.TABLES.values():
  table.clear()
paper.TABLES[1].update({"fixed_32x2": (1.0,) * 6, "fixed_16x4": (1.0,) * 6})
from experiments import tables
sys.argv = sys.argv[1:]
app.run(tables.main)
"""
_FIELDS = {
  "num_steps": 12,
  "batch_size": 16,
  "data.image_size": 16,
  "model.features": 8,
  "model.network": "cnn",
  "log_every": 1,
  "eval_every": 6,
  "checkpoint_every": 2,
  "gradient_gap_every": 4,
  "rate_examples": 40,
}


def start(root, **kwargs):
  command = [sys.executable, "-c", _PROGRAM, "tables"]
  command += ["--dataset=photo_patches", "--table=1", f"--workdir={root}"]
  command += [f"--set={name}={value}" for name, value in _FIELDS.items()]
  return subprocess.Popen(
    command,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
    start_new_session=True,
    env={**os.environ, "NPROC": "16"},
    **kwargs,
  )


@pytest.mark.slow
class TablesTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.create_tempdir())
    self.trials = [
      Trial(self.root, "photo_patches", variant, 0)
      for variant in ("fixed_32x2", "fixed_16x4")
    ]

  def wait_for_a_checkpoint_of_the_second(self, process):
    checkpoints = self.trials[1].workdir / "checkpoints"
    deadline = time.monotonic() + 300
    while not any(path.name.isdecimal() for path in checkpoints.glob("*")):
      self.assertLess(time.monotonic(), deadline)
      self.assertIsNone(process.poll(), process.stdout)
      time.sleep(0.05)

  def finish(self, *processes):
    """Returns what they have printed, once they have made the table."""
    outputs = []
    for process in processes:
      output, _ = process.communicate(timeout=300)
      self.assertEqual(process.returncode, 0, output)
      self.assertIn("| [16,4] |", output)
      outputs.append(output)
    for trial in self.trials:
      self.assertEqual(trial.status(), "finished")
      steps, _ = trial.series("train", "loss")
      self.assertEqual(steps.tolist(), list(range(1, 13)))
    return "".join(outputs)

  def test_killed_in_the_middle_and_run_again(self):
    first, second = self.trials
    process = start(self.root)
    self.wait_for_a_checkpoint_of_the_second(process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    self.assertEqual(first.status(), "finished")
    before = (first.workdir / "summary.json").stat().st_mtime_ns

    output = self.finish(start(self.root))
    self.assertIn(f"Resuming {second.workdir} at step", output)
    after = (first.workdir / "summary.json").stat().st_mtime_ns
    self.assertEqual(after, before)  # not done twice
    table = (self.root / "photo_patches" / "table1.md").read_text()
    self.assertIn("12 updates of batch 16", table)

    with self.subTest("nothing is left to do"):
      output = self.finish(start(self.root))
      self.assertNotIn("run 1 of", output)
      self.assertIn(table, output)

  def test_a_run_outlives_what_started_it(self):
    process = start(self.root)
    self.wait_for_a_checkpoint_of_the_second(process)
    process.kill()  # it alone
    process.wait()
    self.finish(start(self.root))
    # Another waited for the run; nothing was done again.
    self.assertNotIn("Resuming", self.trials[1].output.read_text())

  def test_two_processes_share_the_runs(self):
    self.finish(start(self.root), start(self.root))
    for trial in self.trials:
      said = trial.output.read_text()
      self.assertNotIn("Resuming", said)
      self.assertEqual(said.count("step 12/12"), 1)
