"""Random arrays of a quantizer that stay as they are initialized."""

from absl.testing import absltest
import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from adq_jax.quantizers import constants


class _Module(nn.Module):
  @nn.compact
  def __call__(self):
    normal = nn.initializers.normal(1.0)
    return constants.make(self, "noise", normal, (3, 2)).value


class ConstantsTest(absltest.TestCase):
  def test_they_are_made_once_in_a_collection_of_their_own(self):
    variables = _Module().init(jax.random.key(0))
    self.assertEqual(list(variables), [constants.COLLECTION])
    chex.assert_shape(variables["constants"]["noise"], (3, 2))
    self.assertTrue((jnp.square(variables["constants"]["noise"]) > 0).all())
    # Without a key.
    chex.assert_trees_all_equal(
      _Module().apply(variables), variables["constants"]["noise"]
    )


if __name__ == "__main__":
  absltest.main()
