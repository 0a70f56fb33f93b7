"""What bits cost, against float64 NumPy and by hand."""

from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np

from adq_jax import CodedPrice
from adq_jax import NominalPrice
from adq_jax import NoPrice
from adq_jax import Placement
from adq_jax import VectorQuantizer
from adq_jax.quantizers import price as prices
from tests.support.small import train


class BitsTest(parameterized.TestCase):
  def test_a_codeword_takes_minus_log2_of_its_share(self):
    bits = CodedPrice().bits(jnp.array([4.0, 2.0, 1.0, 1.0]))
    chex.assert_trees_all_close(
      bits, jnp.array([1.0, 2.0, 3.0, 3.0]), atol=0.01
    )
    # 0.1% of the mean is added to each count.
    expected = -np.log2((np.array([4, 2, 1, 1]) / 2 + 1e-3) / 4.004)
    chex.assert_trees_all_close(bits, expected.astype(np.float32), rtol=1e-6)

  def test_a_code_that_was_never_used_has_finite_bits(self):
    bits = prices.coded_bits(jnp.array([8.0, 0.0]))
    chex.assert_tree_all_finite(bits)
    self.assertBetween(bits[1], 10, 12)
    self.assertBetween(bits[0], 0, 0.01)

  def test_before_the_first_code_all_are_as_frequent(self):
    bits = prices.coded_bits(jnp.zeros(8))
    chex.assert_trees_all_close(bits, jnp.full(8, 3.0), atol=1e-6)

  def test_the_scale_of_counts_means_nothing(self):
    counts = jnp.array([5.0, 1.0, 0.0])
    chex.assert_trees_all_close(
      prices.coded_bits(counts), prices.coded_bits(1e3 * counts), rtol=1e-5
    )

  def test_counts_in_half_precision_have_bits_in_float32(self):
    counts = jnp.array([5.0, 1.0, 0.0], jnp.bfloat16)
    bits = prices.coded_bits(counts)
    chex.assert_type(bits, jnp.float32)
    chex.assert_trees_all_equal(
      bits, prices.coded_bits(counts.astype(jnp.float32))
    )

  def test_nominal_bits_are_equal(self):
    bits = NominalPrice().bits(jnp.array([9.0, 1.0, 0.0, 0.0]))
    chex.assert_trees_all_equal(bits, jnp.full(4, 2.0))
    self.assertTrue((NoPrice().bits(jnp.ones(4)) == 0).all())

  def test_fields_that_do_not_fit(self):
    with self.assertRaisesRegex(ValueError, "price.rate_weight is -1"):
      VectorQuantizer(4, 1, price=CodedPrice(-1)).check()
    with self.assertRaisesRegex(ValueError, "price is 3; it must be an Abs"):
      VectorQuantizer(4, 1, price=3).check()


class PlacedTest(parameterized.TestCase):
  def test_codewords_that_start_on_data_are_as_frequent(self):
    quantizer = VectorQuantizer(
      8, 2, price=CodedPrice(0.1), placement=Placement("data")
    )
    z = jax.random.normal(jax.random.key(0), (64, 2))
    variables = quantizer.init(jax.random.key(1), z)
    _, result, _ = train(quantizer, variables, z)
    np.testing.assert_allclose(result.metrics["rate"], 3.0, rtol=1e-5)
