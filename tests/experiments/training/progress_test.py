import time
from unittest import mock

from absl.testing import parameterized

from experiments.training import progress


class ProgressTest(parameterized.TestCase):
  def test_speed_leaves_pauses_out(self):
    now = [100.0]
    with mock.patch.object(time, "perf_counter", lambda: now[0]):
      bar = progress.Progress(num_steps=100, first_step=10, batch_size=4)
      now[0] += 2
      with bar.pause():
        now[0] += 1000
      now[0] += 3
      self.assertEqual(
        bar.measure(20), {"steps_per_second": 2.0, "data_wait": 0.0}
      )
      with bar.waiting():
        now[0] += 1
      now[0] += 4
      self.assertEqual(
        bar.measure(25), {"steps_per_second": 1.0, "data_wait": 0.2}
      )
    bar.close()
