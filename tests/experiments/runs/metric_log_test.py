import pathlib

from absl.testing import parameterized
import numpy as np

from experiments.runs import metric_log
from experiments.training import metric_writer


class MetricLogTest(parameterized.TestCase):
  def test_a_log_that_cannot_be_read(self):
    root = pathlib.Path(self.create_tempdir())
    (root / "metrics.jsonl").mkdir()
    self.assertEmpty(metric_log.read_metrics(root))
    self.assertRegex(
      metric_log.read_log(root).problems[0], "metrics.jsonl cannot be read"
    )

  def test_values_of_another_shape_are_left_out(self):
    root = pathlib.Path(self.create_tempdir())
    log = metric_writer.MetricLog(root, 0)
    for step, value in ((1, 1.0), (2, np.ones(2)), (3, np.ones(3) * np.nan)):
      log.write(step, "train", {"v": value})
    log.write(4, "train", {"v": np.zeros(3)})
    log.close()
    steps, values = metric_log.read_series(root, "train", "v")
    self.assertEqual(steps.tolist(), [3, 4])
    self.assertEqual(values.shape, (2, 3))
