import math
from unittest import mock

from absl.testing import parameterized
import numpy as np

from adq_jax import CodedPrice
from adq_jax import VectorQuantizer
from adq_jax import VQVAE
from experiments.errors import UserError
from experiments.runs.frequencies import Frequencies
from experiments.tokens.rate_target import BITS
from experiments.tokens.rate_target import PRICE
from experiments.tokens.rate_target import PSNR
from experiments.tokens.rate_target import Target


def falling(price):
  """8 at 1e-4, and 4 at 1e-2."""
  return -2 * math.log10(price)


class TargetTest(parameterized.TestCase):
  @parameterized.product(kind=[BITS, PSNR], value=[4.0, 5.0, 6.123, 8.0])
  def test_the_price_meets_it(self, kind, value):
    measure = mock.Mock(side_effect=falling)
    price = Target(kind, value).find_price(measure, 1e-4, 1e-2)
    self.assertAlmostEqual(falling(price), value, delta=0.01 * value)
    if kind == BITS:
      self.assertLessEqual(falling(price), value + 1e-9)
    else:
      self.assertGreaterEqual(falling(price), value - 1e-9)
    self.assertLess(measure.call_count, 15)

  @parameterized.parameters((BITS, True), (PSNR, False))
  def test_the_price_at_a_jump(self, kind, is_above):
    def jumps(price):
      return 7.0 if price < 2e-3 else 5.0

    price = Target(kind, 6.0).find_price(jumps, 1e-4, 1e-2)
    self.assertAlmostEqual(price, 2e-3, delta=1e-5)
    self.assertEqual(price >= 2e-3, is_above)

  @parameterized.parameters(3.9, 8.1)
  def test_what_is_out_of_reach(self, value):
    with self.assertRaisesRegex(
      UserError, f"--psnr is {value}; with .* these images it can be 4 to 8$"
    ):
      Target(PSNR, value).find_price(falling, 1e-4, 1e-2)

  def test_the_range_that_is_named_can_be_met(self):
    def measure(price):
      return 0.04 * falling(price) / 7  # 0.045714... and 0.022857...

    with self.assertRaisesRegex(UserError, "it can be 0.0229 to 0.0457$"):
      Target(BITS, 1).find_price(measure, 1e-4, 1e-2)
    for value in (0.0229, 0.0457):
      Target(BITS, value).find_price(measure, 1e-4, 1e-2)

  @parameterized.parameters(-1.0, math.nan, math.inf, 1e31)
  def test_no_such_price(self, value):
    with self.assertRaisesRegex(UserError, "--rate_weight is .*; it must be"):
      Target(PRICE, value)

  def test_models_without_a_price(self):
    Target(PSNR, 20).check_model(
      VQVAE(VectorQuantizer(8, 2, price=CodedPrice()))
    )
    with self.assertRaisesRegex(UserError, "--psnr is for a model with a pri"):
      Target(PSNR, 20).check_model(VQVAE(VectorQuantizer(8, 2)))

  @parameterized.parameters(None, Frequencies(np.zeros(1), ()))
  def test_models_without_frequencies_at_prices(self, known):
    Target(PRICE, 20).check_frequencies(known)
    with self.assertRaisesRegex(UserError, "--bits_per_pixel needs the freq"):
      Target(BITS, 1).check_frequencies(known)
    Target(BITS, 1).check_frequencies(Frequencies(np.array([1e-4, 1e-2]), ()))
