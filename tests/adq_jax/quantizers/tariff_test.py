"""What codes cost points, against float64 NumPy and by hand."""

from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np

from adq_jax import CodedPrice
from adq_jax import NominalPrice
from adq_jax import VectorQuantizer
from tests.support.small import train


def make(weight=0.0, **fields):
  """A quantizer with codewords at 0, 1, 2 and 3, used more and more often."""
  quantizer = VectorQuantizer(4, 1, price=CodedPrice(weight), **fields)
  embedding = jnp.arange(4.0)[:, None]
  size = jnp.array([1.0, 3.0, 12.0, 48.0])
  return quantizer, {
    "codebook": {
      "embedding": embedding,
      "cluster_size": size,
      "embedding_sum": embedding * size[:, None],
      "initialized": jnp.array(True),
    }
  }


class ChoiceTest(parameterized.TestCase):
  @parameterized.parameters(0.0, 0.02, 0.3, 20.0)
  def test_a_point_takes_the_codeword_of_the_least_cost(self, weight):
    quantizer, variables = make(weight)
    z = jnp.linspace(-0.5, 3.5, 41)[:, None]
    bits = np.asarray(CodedPrice().bits(variables["codebook"]["cluster_size"]))
    costs = np.square(np.float64(z) - np.arange(4)) + weight * bits
    expected = costs.argmin(axis=1)
    result = quantizer.apply(variables, z)
    np.testing.assert_array_equal(result.codes, expected)
    np.testing.assert_allclose(
      result.metrics["rate"], bits[expected].mean(), rtol=1e-6
    )
    if weight == 20.0:
      self.assertEqual(set(expected), {3})

  def test_each_example_has_a_price(self):
    quantizer, variables = make()
    z = jax.random.uniform(jax.random.key(0), (3, 5, 1), maxval=3.0)
    weight = jnp.array([0.0, 0.1, 1.0])
    found = quantizer.apply(variables, z, rate_weight=weight)
    for i in range(3):
      own = quantizer.apply(variables, z[i], rate_weight=weight[i])
      chex.assert_trees_all_equal(found.codes[i], own.codes)
    codes = quantizer.apply(variables, z, rate_weight=weight, method="encode")
    chex.assert_trees_all_equal(codes, found.codes)
    self.assertGreater(
      jnp.square(found.values - z)[2].mean(),
      jnp.square(found.values - z)[0].mean(),
    )

  def test_training_learns_from_the_points_that_chose(self):
    quantizer, variables = make(update="ema", decay=0.0)
    z = jnp.array([[1.6], [1.4], [0.1]])
    _, result, after = train(
      VectorQuantizer(4, 1, price=CodedPrice(0.3), update=quantizer.update),
      variables,
      z,
    )
    # The second would be nearer to codeword 1.
    np.testing.assert_array_equal(result.codes, [2, 2, 0])
    np.testing.assert_allclose(after["codebook"]["cluster_size"], [1, 0, 2, 0])

  @parameterized.parameters(
    (-1.0, "value -1.0; it must be finite and 0 or more"),
    (jnp.nan, "value nan"),
    (jnp.inf, "value inf"),
    (jnp.ones(2), r"shape \(2,\); it must be a number, or \(3,\)"),
    (jnp.ones((3, 5)), r"shape \(3, 5\)"),
  )
  def test_a_bad_price_is_refused(self, weight, message):
    quantizer, variables = make()
    for method in ("__call__", "encode"):
      with self.assertRaisesRegex(ValueError, f"rate_weight has .*{message}"):
        quantizer.apply(
          variables, jnp.ones((3, 5, 1)), rate_weight=weight, method=method
        )


class TablesTest(parameterized.TestCase):
  """Bits that come from elsewhere, in the collection "rates"."""

  def setUp(self):
    super().setUp()
    self.quantizer, self.variables = make()
    self.bits = np.array([[4.0, 2, 1, 2], [2.0, 1, 4, 8]], np.float32)
    self.variables["rates"] = {
      "prices": np.array([0.01, 1.0], np.float32),
      "index": self.bits,
    }

  @parameterized.parameters(
    (0.01, (1, 0)),
    (1.0, (0, 1)),
    (0.1, (0.5, 0.5)),
    (1e-4, (1, 0)),
    (0.0, (1, 0)),
    (50.0, (0, 1)),
  )
  def test_bits_are_mixed_by_the_logarithm_of_the_price(self, weight, shares):
    z = jnp.linspace(-0.5, 3.5, 41)[:, None]
    bits = np.asarray(shares) @ self.bits
    costs = np.square(np.float64(z) - np.arange(4)) + weight * bits
    result = self.quantizer.apply(self.variables, z, rate_weight=weight)
    np.testing.assert_array_equal(result.codes, costs.argmin(axis=1))
    np.testing.assert_allclose(
      result.metrics["rate"], bits[costs.argmin(axis=1)].mean(), rtol=1e-5
    )

  def test_tables_of_numpy_may_be_closed_over(self):
    z = jnp.linspace(-0.5, 3.5, 41)[:, None]
    result = jax.jit(lambda z: self.quantizer.apply(self.variables, z))(z)
    expected = self.quantizer.apply(self.variables, z)
    chex.assert_trees_all_equal(result.codes, expected.codes)

  def test_training_counts_for_itself(self):
    z = jnp.linspace(-0.5, 3.5, 41)[:, None]
    del self.variables["rates"]
    _, expected, _ = train(self.quantizer, self.variables, z)
    self.setUp()
    _, result, _ = train(self.quantizer, self.variables, z)
    chex.assert_trees_all_equal(result.metrics, expected.metrics)

  def test_nominal_bits_do_not_come_from_tables(self):
    quantizer = VectorQuantizer(4, 1, price=NominalPrice(0.3))
    result = quantizer.apply(self.variables, jnp.ones((3, 1)))
    self.assertEqual(result.metrics["rate"], 2)

  def test_tables_that_lack_something_are_refused(self):
    del self.variables["rates"]["index"]
    with self.assertRaisesRegex(ValueError, 'index in .* "rates" is a None'):
      self.quantizer.apply(self.variables, jnp.ones((2, 1)))

  def test_tables_of_another_quantizer_are_refused(self):
    self.variables["rates"]["index"] = np.ones((2, 5), np.float32)
    with self.assertRaisesRegex(
      ValueError, r'index in the collection "rates" has shape \(2, 5\)'
    ):
      self.quantizer.apply(self.variables, jnp.ones((2, 1)))
