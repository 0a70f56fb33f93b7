from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np

from adq_jax import StraightThrough
from adq_jax.quantizers import estimators
from tests.support.small import bits


class StraightThroughTest(parameterized.TestCase):
  def test_a_value_passes_to_the_bit_whatever_it_is_like(self):
    value = jnp.array([-0.0, 1e-30, 3e38, 0.1])
    for like in (jnp.zeros(4), jnp.full(4, np.inf), jnp.full(4, np.nan)):
      found = estimators.straight_through(value, like)
      chex.assert_trees_all_equal(bits(found), bits(value))

  def test_both_arguments_have_the_gradient(self):
    weights = jnp.array([1.0, -2.0, 3.0])
    gradients = jax.grad(
      lambda a, b: jnp.sum(weights * estimators.straight_through(a, b)), (0, 1)
    )(jnp.zeros(3), jnp.ones(3))
    chex.assert_trees_all_equal(gradients, (weights, weights))

  def test_points_have_the_gradient_and_their_codewords_have_none(self):
    quantized, points = jnp.ones((2, 3)), jnp.full((2, 3), 0.5)
    weights = jnp.arange(6.0).reshape(2, 3)

    def total(quantized, points):
      values = StraightThrough().estimate(quantized, points)
      return jnp.sum(weights * values), values

    gradients, values = jax.grad(total, (0, 1), has_aux=True)(quantized, points)
    chex.assert_trees_all_equal(values, quantized)
    chex.assert_trees_all_equal(gradients, (jnp.zeros((2, 3)), weights))
