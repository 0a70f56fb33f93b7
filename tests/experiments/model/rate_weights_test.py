import math

from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

from experiments.model import rate_weights
from tests.support import tiny

RANGE = {
  "rate_weight.lowest": 1e-4,
  "rate_weight.highest": 1e-2,
  "rate_weight.warmup_steps": 100,
}


class RateWeightsTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.config = tiny.config("priced_2x8x4", **RANGE)

  def sample(self, key, count, steps_done=100):
    return rate_weights.sample(
      self.config, jax.random.key(key), jnp.arange(count), steps_done
    )

  def test_prices_are_uniform_by_their_logarithm(self):
    logs = np.log10(self.sample(0, 4000))
    self.assertBetween(logs.min(), -4, -3.99)
    self.assertBetween(logs.max(), -2.01, -2)
    self.assertAlmostEqual(logs.mean(), -3, delta=0.04)
    self.assertAlmostEqual(logs.std(), 2 / math.sqrt(12), delta=0.02)

  def test_a_price_belongs_to_its_image(self):
    np.testing.assert_array_equal(self.sample(0, 8)[:3], self.sample(0, 3))
    self.assertFalse((self.sample(0, 8) == self.sample(1, 8)).any())

  def test_they_rise_from_0(self):
    whole = self.sample(0, 8)
    np.testing.assert_array_equal(self.sample(0, 8, 0), np.zeros(8))
    np.testing.assert_allclose(self.sample(0, 8, 25), whole / 4, rtol=1e-6)
    np.testing.assert_array_equal(self.sample(0, 8, 900), whole)

  def test_evaluation_is_at_the_middle_and_the_curve_spans_the_range(self):
    self.assertTrue(rate_weights.are_sampled(self.config))
    self.assertAlmostEqual(rate_weights.middle(self.config), 1e-3)
    prices = rate_weights.on_curve(self.config)
    np.testing.assert_allclose(prices[[0, 4, 8]], [1e-4, 1e-3, 1e-2])

  def test_without_a_range_there_is_none(self):
    config = tiny.config("fixed_16x4")
    self.assertFalse(rate_weights.are_sampled(config))
    self.assertIsNone(rate_weights.middle(config))
