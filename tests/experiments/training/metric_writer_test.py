import contextlib
import io
import json
import pathlib
import re

from absl.testing import parameterized
import numpy as np

from experiments import files
from experiments.runs import metric_log
from experiments.training import metric_writer


class MetricLogTest(parameterized.TestCase):
  def test_lines_come_back_and_later_ones_are_cut_on_a_resume(self):
    root = pathlib.Path(self.create_tempdir())
    log = metric_writer.MetricLog(root, 0)
    for step in (1, 2, 3):
      each = np.array([[0.0, np.nan]])
      values = {"loss": np.float32(step), "v": np.arange(2.0), "each": each}
      log.write(step, "train", values)
    log.close()
    with open(root / "metrics.jsonl", "a") as file:
      file.write('{"step": 4, "sp')  # killed while writing
    self.assertLen(metric_log.read_metrics(root), 3)
    metric_writer.MetricLog(root, 2).close()
    self.assertEqual(
      metric_log.read_metrics(root),
      [
        {
          "step": step,
          "split": "train",
          "values": {"loss": step, "v": [0.0, 1.0], "each": [[0.0, None]]},
        }
        for step in (1, 2)
      ],
    )

  def test_damaged_lines_are_named_and_the_others_kept(self):
    root = pathlib.Path(self.create_tempdir())
    path = root / "metrics.jsonl"
    whole = [
      json.dumps({"step": step, "split": "train", "values": {"loss": 1.0}})
      for step in range(1, 5)
    ]
    damaged = [
      b"{",
      b"\xff\xfe",
      b"7",
      b"null",
      b'{"step": 2}',
      b'{"step": "2", "split": "train", "values": {}}',
      b'{"step": 2, "split": "train", "values": {"loss": "low"}}',
      b'{"step": 2, "split": "train", "values": [1]}',
      b'{"step": 2, "split": "train", "values": {"loss": [[[1]]]}}',
      b"[" * 100_000,
      b"\0\0\0",
    ]
    one, two, three, four = (line.encode() for line in whole)
    content = b"\n".join([one, *damaged, two, b"{{", three, four, b"cut sho"])
    path.write_bytes(content)
    expected = [json.loads(line) for line in whole]
    self.assertEqual(metric_log.read_metrics(root), expected)
    problems = metric_log.read_log(root).problems
    for text in (
      "lines 2, 11 to 12, 14: damaged (not JSON), left out",
      "line 3: damaged (not UTF-8)",
      "lines 4 to 5: damaged (not a JSON object)",
      "lines 6 to 10: damaged (not a step, a split and values)",
    ):
      self.assertRegex("\n".join(problems), re.escape(text))
    steps, losses = metric_log.read_series(root, "train", "loss")
    np.testing.assert_array_equal(steps, [1, 2, 3, 4])
    self.assertEqual(losses.tolist(), [1.0] * 4)

    with self.subTest("a resume loses nothing"):
      output = io.StringIO()
      with contextlib.redirect_stdout(output):
        metric_writer.MetricLog(root, 3).close()
      self.assertEqual(metric_log.read_metrics(root), expected[:3])
      self.assertEmpty(metric_log.read_log(root).problems)
      kept = root / "damaged" / "metrics.jsonl"
      self.assertEqual(kept.read_bytes(), content)
      self.assertIn(str(kept), output.getvalue())
      self.assertEqual(output.getvalue().count("\n"), 1)

    with self.subTest("where nothing is damaged there is no copy"):
      metric_writer.MetricLog(root, 3).close()
      self.assertLen(list((root / "damaged").iterdir()), 1)

  def test_lines_of_another_run_are_named_and_left_out(self):
    roots = [pathlib.Path(self.create_tempdir()) for _ in range(2)]
    for root, run_id in zip(roots, ("a" * 32, "b" * 32), strict=True):
      files.write_json(root / "config.json", {"run_id": run_id})
      log = metric_writer.MetricLog(root, 0)
      log.write(1, "train", {"loss": 1.0})
      log.close()
    ours, theirs = (root / "metrics.jsonl" for root in roots)
    old = {"step": 2, "split": "train", "values": {"loss": 2.0}}
    content = ours.read_bytes() + theirs.read_bytes()
    ours.write_bytes(content + json.dumps(old).encode() + b"\n")
    log = metric_log.read_log(roots[0])
    self.assertEqual([line["step"] for line in log.lines], [1, 2])
    self.assertNotIn("run_id", log.lines[0])
    (problem,) = log.problems
    self.assertRegex(problem, "line 2: of another run, b{32}, left out")
    with contextlib.redirect_stdout(io.StringIO()):
      metric_writer.MetricLog(roots[0], 2).close()
    self.assertLen(metric_log.read_metrics(roots[0]), 2)
    self.assertIn(
      theirs.read_bytes(),
      (roots[0] / "damaged" / "metrics.jsonl").read_bytes(),
    )
