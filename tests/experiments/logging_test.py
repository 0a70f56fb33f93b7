import pathlib
import time
from unittest import mock

from absl.testing import parameterized
import numpy as np

from experiments import logging


class MetricLogTest(parameterized.TestCase):
  def test_lines_come_back_and_later_ones_are_cut_on_a_resume(self):
    root = pathlib.Path(self.create_tempdir())
    log = logging.MetricLog(root, 0)
    for step in (1, 2, 3):
      log.write(step, "train", {"loss": np.float32(step), "v": np.arange(2.0)})
    log.close()
    with open(root / "metrics.jsonl", "a") as file:
      file.write('{"step": 4, "sp')  # killed while writing
    self.assertLen(logging.read_metrics(root), 3)
    logging.MetricLog(root, 2).close()
    self.assertEqual(
      logging.read_metrics(root),
      [
        {
          "step": step,
          "split": "train",
          "values": {"loss": step, "v": [0.0, 1.0]},
        }
        for step in (1, 2)
      ],
    )


class ProgressTest(parameterized.TestCase):
  def test_speed_leaves_pauses_out(self):
    now = [100.0]
    with mock.patch.object(time, "perf_counter", lambda: now[0]):
      progress = logging.Progress(num_steps=100, first_step=10, batch_size=4)
      now[0] += 2
      with progress.pause():
        now[0] += 1000
      now[0] += 3
      self.assertEqual(
        progress.report(20, 0.5), {"steps_per_second": 2.0, "data_wait": 0.0}
      )
      with progress.waiting():
        now[0] += 1
      now[0] += 4
      self.assertEqual(
        progress.report(25, 0.5), {"steps_per_second": 1.0, "data_wait": 0.2}
      )
    progress.close()
