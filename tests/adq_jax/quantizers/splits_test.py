"""What each group of a product quantizer sees of a point."""

from absl.testing import absltest
import chex
import jax
import jax.numpy as jnp
import numpy as np

from adq_jax import FSQ
from adq_jax import ProductQuantizer
from adq_jax import RandomProjections
from adq_jax import VectorQuantizer

Z = np.random.default_rng(0).normal(size=(5, 6)).astype(np.float32)


class RandomProjectionsTest(absltest.TestCase):
  def test_groups_quantize_projections_and_there_is_no_way_back(self):
    inner = VectorQuantizer(8, 2)
    quantizer = ProductQuantizer(3, inner, split=RandomProjections())
    variables = quantizer.init(jax.random.key(0), Z)
    result = quantizer.apply(variables, Z)
    matrices = np.float64(variables["constants"]["split"])
    for g in range(3):
      own = {"codebook": variables["codebook"][f"groups_{g}"]}
      seen = np.float32(np.float64(Z) @ matrices[:, g])
      expected = inner.apply(own, seen)
      chex.assert_trees_all_equal(result.codes[:, g], expected.codes)
      chex.assert_trees_all_equal(
        result.values[:, 2 * g : 2 * g + 2], expected.values
      )
    decoded = quantizer.apply(variables, result.codes, method="decode")
    chex.assert_trees_all_equal(decoded, result.values)

  def test_matrices_are_glorot_uniform_and_differ(self):
    found = RandomProjections().constants(8, 16)
    initializer, shape = found["split"]
    matrices = initializer(jax.random.key(0), shape)
    limit = np.sqrt(6 / (128 + 16))
    self.assertBetween(np.abs(matrices).max(), 0.99 * limit, limit)
    np.testing.assert_allclose(
      matrices.std(axis=(0, 2)), limit / np.sqrt(3), rtol=0.05
    )
    correlation = np.corrcoef(matrices[:, 0].ravel(), matrices[:, 1].ravel())
    self.assertLess(abs(correlation[0, 1]), 0.1)

  def test_the_gradient_goes_through_the_projections(self):
    quantizer = ProductQuantizer(
      2, FSQ((5, 5, 5)), split=RandomProjections(), features=6
    )
    variables = quantizer.init(jax.random.key(0), Z)
    changed = quantizer.apply(variables, Z, train=True, mutable=["constants"])
    chex.assert_trees_all_equal(
      changed[1].get("constants", variables["constants"]),
      variables["constants"],
    )
    numbers = jnp.zeros((1, 6))  # where FSQ has the gradient of tanh, 1
    jacobian = jax.jacobian(lambda z: quantizer.apply(variables, z).values)
    matrix = variables["constants"]["split"].reshape(6, 6)
    slope = jax.jacobian(lambda x: FSQ((5,)).apply({}, x).values)(
      jnp.zeros((1, 1))
    )
    np.testing.assert_allclose(
      jacobian(numbers)[0, :, 0], matrix.T * slope.item(), rtol=1e-5, atol=1e-6
    )

  def test_a_split_is_checked(self):
    with self.assertRaisesRegex(ValueError, "split is 'random'; it must be an"):
      ProductQuantizer(2, FSQ((5,)), split="random").check()


if __name__ == "__main__":
  absltest.main()
