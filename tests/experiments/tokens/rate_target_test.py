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

KNOWN = Frequencies(np.array([1e-4, 1e-2]), ())


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

  @parameterized.parameters(3.9, 8.1)
  def test_what_is_out_of_reach(self, value):
    with self.assertRaisesRegex(
      UserError, f"--psnr is {value}; with .* images take 4 to 8$"
    ):
      Target(PSNR, value).find_price(falling, 1e-4, 1e-2)

  @parameterized.parameters(-1.0, math.nan, math.inf)
  def test_no_such_value(self, value):
    with self.assertRaisesRegex(UserError, "--rate_weight is .*; it must be"):
      Target(PRICE, value)

  def test_what_a_model_cannot_be_asked_for(self):
    plain = VQVAE(VectorQuantizer(8, 2))
    priced = VQVAE(VectorQuantizer(8, 2, price=CodedPrice()))
    with self.assertRaisesRegex(UserError, "--psnr is for a model with a pri"):
      Target(PSNR, 20).check(plain, KNOWN)
    Target(PSNR, 20).check(priced, KNOWN)
    Target(PRICE, 20).check(priced, None)
    for known in (None, Frequencies(np.zeros(1), ())):
      with self.assertRaisesRegex(UserError, "--bits_per_pixel needs the freq"):
        Target(BITS, 1).check(priced, known)
