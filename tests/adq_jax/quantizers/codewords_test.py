from absl.testing import parameterized
import chex
import jax.numpy as jnp

from adq_jax import FreeCodewords


class FreeCodewordsTest(parameterized.TestCase):
  def test_they_are_the_vectors(self):
    vectors = jnp.arange(6.0).reshape(3, 2)
    chex.assert_trees_all_equal(FreeCodewords().make(2)(vectors), vectors)
    FreeCodewords().check()
