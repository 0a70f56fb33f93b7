from absl.testing import parameterized
import numpy as np

from experiments.data.split import Split
from experiments.evaluation import baselines
from tests.support import tiny


class BaselinesTest(parameterized.TestCase):
  def test_flat_images_and_noise(self):
    config = tiny.config()
    rng = np.random.default_rng(0)
    flat = np.full((2, 16, 16, 3), 77, np.uint8)
    noise = rng.integers(0, 256, (2, 16, 16, 3)).astype(np.uint8)
    split = Split(
      np.concatenate([flat, noise]), np.array([0, 0, 1, 1]), ("flat", "noise")
    )
    result = baselines.baselines(config, split)
    self.assertGreater(result["resize"]["psnr_per_source"]["flat"], 100)
    deviation = (noise / 255).std(axis=(1, 2))
    np.testing.assert_allclose(
      result["mean_color"]["psnr_per_source"]["noise"],
      10 * np.log10(1 / np.mean(deviation**2)),
      rtol=1e-4,
    )
