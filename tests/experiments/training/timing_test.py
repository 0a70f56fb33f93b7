from absl.testing import parameterized
import pytest

from experiments.training import timing
from tests.support import tiny


class TimingTest(parameterized.TestCase):
  @pytest.mark.slow
  def test_a_measured_step(self):
    config = tiny.config("fixed_16x4", **{"batch_size": 8, "model.features": 4})
    seconds = timing.seconds_per_step(config)
    self.assertGreater(seconds, 0)
    self.assertLess(seconds, 60)
