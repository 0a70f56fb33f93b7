"""How a run ends before its time, and what it leaves then."""

import contextlib
import io
import json
import os
import pathlib
import shutil
import signal
import tempfile
from unittest import mock

from absl.testing import parameterized
import chex
import pytest

from experiments import data
from experiments.errors import StoppedError
from experiments.errors import UserError
from experiments.processes import outputs
from experiments.runs import summary as summary_lib
from experiments.runs.checkpoints import load_state
from experiments.training import finish
from experiments.training import loop
from experiments.training import metric_writer
from experiments.training import progress
from tests.support import tiny


def run(root, **fields):
  output = io.StringIO()
  with contextlib.redirect_stdout(output):
    summary = loop.train_and_evaluate(config(**fields), root)
  return summary, output.getvalue()


def config(variant="fixed_16x4", **fields):
  return tiny.config(variant, **fields)


def final_state(root, **fields):
  return load_state(config(**fields), pathlib.Path(root))[1]


class EndingsTest(parameterized.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    directory = tempfile.TemporaryDirectory()
    cls.addClassCleanup(directory.cleanup)
    cls.whole = pathlib.Path(directory.name) / "whole"
    run(cls.whole)

  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.create_tempdir())

  @parameterized.parameters(signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
  def test_a_run_that_is_asked_to_stop_goes_on_where_it_was(self, number):
    write = metric_writer.MetricLog.write

    def ask(log, step, split, values):
      write(log, step, split, values)
      if step == 3:
        os.kill(os.getpid(), number)

    handler = signal.getsignal(number)
    with mock.patch.object(metric_writer.MetricLog, "write", ask):
      with self.assertRaisesRegex(
        StoppedError, f"by {number.name} after step 4 of 6, saved"
      ) as raised:
        run(self.root / "stopped")
    self.assertEqual(raised.exception.exit_code, 75)
    self.assertEqual(signal.getsignal(number), handler)
    _, output = run(self.root / "stopped")
    self.assertIn("at step 4", output)
    chex.assert_trees_all_equal(
      final_state(self.root / "stopped"), final_state(self.whole)
    )
    self.assertEqual(
      tiny.logged(self.root / "stopped"), tiny.logged(self.whole)
    )

  @parameterized.parameters(True, False)
  def test_output_that_nobody_reads_stops_it(self, asks_too):
    reading, writing = os.pipe()
    write = metric_writer.MetricLog.write

    def leave(log, step, split, values):
      write(log, step, split, values)
      if step == 3 and split == "train" and "loss" in values:
        os.close(reading)
        if asks_too:  # Ctrl-C reaches `tee` as well
          os.kill(os.getpid(), signal.SIGINT)

    with (
      mock.patch.object(metric_writer.MetricLog, "write", leave),
      contextlib.redirect_stdout(outputs.tolerant(writing)),
      self.assertRaisesRegex(StoppedError, "by .* after step 4 of 6, saved"),
    ):
      loop.train_and_evaluate(config(), self.root / "stopped")
    os.close(writing)
    _, output = run(self.root / "stopped")
    self.assertIn("at step 4", output)
    self.assertEqual(
      tiny.logged(self.root / "stopped"), tiny.logged(self.whole)
    )

  def test_what_is_said_is_said_after_it_was_saved(self):
    say = progress.Progress.say

    def fail(progress, text):
      if "step 4  validation" in text:
        raise ValueError("I/O operation on closed file")
      say(progress, text)

    with mock.patch.object(progress.Progress, "say", fail):
      with self.assertRaisesRegex(ValueError, "closed file"):
        run(self.root / "run")
    _, output = run(self.root / "run")
    self.assertIn("at step 4", output)

  @parameterized.parameters("moved", "removed", "replaced")
  def test_its_directory_goes_away(self, how):
    root, write = self.root / "run", metric_writer.MetricLog.write

    def lose(log, step, split, values):
      write(log, step, split, values)
      if step == 3 and "loss" in values:
        root.rename(self.root / "moved")
        if how == "removed":
          shutil.rmtree(self.root / "moved", ignore_errors=True)
        if how == "replaced":
          root.mkdir()

    with mock.patch.object(metric_writer.MetricLog, "write", lose):
      with self.assertRaisesRegex(UserError, "run was moved, removed or repl"):
        run(root)
    if how == "replaced":
      self.assertEmpty(list(root.iterdir()))
      root.rmdir()
    self.assertFalse(root.exists())
    if how != "removed":
      (self.root / "moved").rename(root)
      self.assertEqual(run(root)[0]["steps"], 6)

  @parameterized.parameters("damaged", "directory", "foreign")
  def test_a_summary_that_is_none(self, kind):
    root = self.root / "run"
    shutil.copytree(self.whole, root)
    summary = summary_lib.read_summary(root)
    path = root / "summary.json"
    content = json.dumps(summary | {"run_id": "b" * 32, "steps": 60})
    if kind == "directory":
      path.unlink()
      path.mkdir()
    else:
      path.write_text(content if kind == "foreign" else content[:100])
    again, output = run(root)
    self.assertRegex(output, rf"{path} is .*: left out\n")
    self.assertIn("at step 6", output)
    self.assertEqual(again["mse"], summary["mse"])
    self.assertTrue((root / "damaged" / "summary.json").exists())

    with self.subTest("without its checkpoints the log is not cut"):
      path.write_text("{")
      (root / "checkpoints").rename(root / "elsewhere")
      before = (root / "metrics.jsonl").read_bytes()
      with self.assertRaisesRegex(UserError, "without its checkpoints.*damag"):
        run(root)
      self.assertEqual((root / "metrics.jsonl").read_bytes(), before)

  def test_a_second_ctrl_c_stops_at_once(self):
    write = metric_writer.MetricLog.write

    def ask_twice(log, step, split, values):
      write(log, step, split, values)
      if step == 3:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with mock.patch.object(metric_writer.MetricLog, "write", ask_twice):
      with self.assertRaisesRegex(StoppedError, "at once, by SIGINT; .*go on"):
        run(self.root / "stopped")
    _, output = run(self.root / "stopped")
    self.assertIn("at step 2", output)
    self.assertEqual(
      tiny.logged(self.root / "stopped"), tiny.logged(self.whole)
    )

  @pytest.mark.slow
  def test_asked_to_stop_before_the_first_step_and_after_the_last(self):
    run(self.root / "whole", variant="adaptive")

    def ask(*args):
      os.kill(os.getpid(), signal.SIGTERM)
      self.fail("still here")

    for module, name in ((data, "load"), (finish, "finish")):
      with mock.patch.object(module, name, ask):
        with self.assertRaisesRegex(
          StoppedError,
          "at once, by SIGTERM; .*stopped holds stands: go on with",
        ) as raised:
          run(self.root / "stopped", variant="adaptive")
        self.assertEqual(raised.exception.exit_code, 75)
    summary, output = run(self.root / "stopped", variant="adaptive")
    self.assertIn("at step 6", output)
    self.assertEqual(
      tiny.logged(self.root / "stopped"), tiny.logged(self.root / "whole")
    )
    whole = summary_lib.read_summary(self.root / "whole")
    for name in ("mse", "rate_coded", "drawn", "codebooks"):
      self.assertEqual(summary[name], whole[name])

  def test_asked_to_stop_in_the_last_step(self):
    write = metric_writer.MetricLog.write

    def ask(log, step, split, values):
      write(log, step, split, values)
      if step == 5:
        os.kill(os.getpid(), signal.SIGTERM)

    with mock.patch.object(metric_writer.MetricLog, "write", ask):
      with self.assertRaisesRegex(StoppedError, "after step 6 of 6, saved"):
        run(self.root / "run")
    self.assertFalse((self.root / "run" / "summary.json").exists())
    summary, _ = run(self.root / "run")
    self.assertEqual(summary["steps"], 6)
