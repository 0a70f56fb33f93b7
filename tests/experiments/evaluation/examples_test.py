"""Those of a model with a curve are tested in rate_curve_test.py."""

from unittest import mock

from absl.testing import parameterized
import numpy as np

from experiments.data.split import Split
from experiments.evaluation import examples
from tests.support import tiny


class ExamplesTest(parameterized.TestCase):
  def test_a_model_of_one_rate(self):
    config = tiny.config("fixed_16x4")
    images = np.zeros((20, 18, 18, 3), np.uint8)
    evaluator = mock.Mock()
    evaluator.reconstruct.return_value = (np.full((16, 16, 16, 3), 0.5), None)
    shown = examples.find_examples(
      config, evaluator, {}, Split(images, np.zeros(20, int)), None
    )
    (first, originals), (second, reconstructed) = shown.rows
    self.assertEqual((first, second), ("original", "reconstruction"))
    self.assertEqual(originals.shape, (16, 16, 16, 3))
    self.assertTrue((reconstructed == 255).all())
    self.assertIsNone(shown.choice)
    self.assertIsNone(shown.bits)
