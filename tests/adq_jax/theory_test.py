from absl.testing import parameterized
import numpy as np

from adq_jax import optimal_codebook_size

SIZES = [512, 1024, 2048, 4096, 8192, 16384, 32768, 65536]


class OptimalCodebookSizeTest(parameterized.TestCase):
  def test_recovers_the_law_that_made_the_losses(self):
    sizes = np.array(SIZES, np.float64)
    result = optimal_codebook_size(SIZES, 300 / sizes + 2e-5 * sizes)
    for fit in (result.fit, result.fit_with_constant):
      self.assertAlmostEqual(fit.quantization, 300, places=6)
      self.assertAlmostEqual(fit.representation, 2e-5, places=12)
      self.assertAlmostEqual(fit.constant, 0, places=9)
      self.assertAlmostEqual(fit.optimal_size, np.sqrt(300 / 2e-5), places=4)
      self.assertAlmostEqual(fit.r_squared, 1, places=9)
    self.assertAlmostEqual(result.fit(1000.0), 0.32, places=9)

  def test_a_constant_is_found_by_the_fit_that_has_one(self):
    sizes = np.array(SIZES, np.float64)
    result = optimal_codebook_size(SIZES, 300 / sizes + 2e-5 * sizes + 5)
    self.assertAlmostEqual(result.fit_with_constant.constant, 5, places=8)
    self.assertAlmostEqual(result.fit_with_constant.r_squared, 1, places=9)
    self.assertLess(result.fit.r_squared, 0.5)

  def test_no_minimum_where_losses_only_fall(self):
    result = optimal_codebook_size([1, 2, 4], [1.0, 0.5, 0.1])
    self.assertTrue(np.isnan(result.fit_with_constant.optimal_size))

  @parameterized.parameters(
    ([1, 2], [1.0, 2.0], "three different"),
    ([1, 2, 2], [1.0, 2.0, 3.0], "three different"),
    ([1, 2, 3], [1.0, 2.0], "one length"),
    ([0, 2, 3], [1.0, 2.0, 3.0], "positive"),
    ([1, 2, 3], [1.0, np.nan, 3.0], "finite"),
  )
  def test_errors(self, sizes, losses, message):
    with self.assertRaisesRegex(ValueError, message):
      optimal_codebook_size(sizes, losses)
