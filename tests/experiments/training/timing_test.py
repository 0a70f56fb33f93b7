from absl.testing import parameterized

from experiments.training import timing
from tests.support import tiny


class TimingTest(parameterized.TestCase):
  def test_a_measured_step(self):
    config = tiny.config("fixed_16x4", **{"batch_size": 8, "model.features": 4})
    seconds = timing.seconds_per_step(config)
    self.assertGreater(seconds, 0)
    self.assertLess(seconds, 60)
