import os
import pathlib
import signal
import subprocess
import sys
import time

from absl.testing import parameterized
import pytest

from experiments import logging
from experiments.cells import Cell

# The table of two small codebooks.
_PROGRAM = """
import sys
from absl import app, flags
from experiments import paper
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
  def test_killed_in_the_middle_and_run_again(self):
    root = pathlib.Path(self.create_tempdir())
    first, second = (
      Cell(root, "photo_patches", variant, 0)
      for variant in ("fixed_32x2", "fixed_16x4")
    )
    process = start(root)
    deadline = time.monotonic() + 300
    while not (second.workdir / "checkpoints").exists():
      self.assertLess(time.monotonic(), deadline)
      self.assertIsNone(process.poll(), process.stdout)
      time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    self.assertEqual(first.status(), "finished")
    before = (first.workdir / "summary.json").stat().st_mtime_ns

    process = start(root)
    output, _ = process.communicate(timeout=300)
    self.assertEqual(process.returncode, 0, output)
    self.assertIn("| [16,4] |", output)
    self.assertEqual(second.status(), "finished")
    after = (first.workdir / "summary.json").stat().st_mtime_ns
    self.assertEqual(after, before)  # not done twice
    for cell in (first, second):
      steps = [
        line["step"]
        for line in logging.read_metrics(cell.workdir)
        if "loss" in line["values"]
      ]
      self.assertEqual(steps, list(range(1, 13)))
    table = (root / "photo_patches" / "table1.md").read_text()
    self.assertIn("12 updates of batch 16", table)

    with self.subTest("nothing is left to do"):
      process = start(root)
      output, _ = process.communicate(timeout=300)
      self.assertNotIn("run 1 of", output)
      self.assertIn(table, output)
