from absl.testing import parameterized
import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from adq_jax import RandomProjectionQuantizer

QUANTIZER = RandomProjectionQuantizer(64, 4, features=16, num_codebooks=3)
Z = np.random.default_rng(0).normal(size=(200, 16)).astype(np.float32)


def direction(x):
  return x / np.linalg.norm(x, axis=-1, keepdims=True)


class RandomProjectionTest(parameterized.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.variables = QUANTIZER.init(jax.random.key(0), Z)
    cls.result = QUANTIZER.apply(cls.variables, Z)

  def test_constants_are_xavier_uniform_and_standard_normal(self):
    self.assertEqual(set(self.variables), {"constants"})
    large = RandomProjectionQuantizer(500, 16, features=80, num_codebooks=2)
    found = large.init(jax.random.key(1), jnp.zeros((1, 80)))["constants"]
    chex.assert_shape(found["projection"], (80, 2, 16))
    bound = np.sqrt(6 / (80 + 16))
    highest = np.abs(found["projection"]).max(axis=(0, 2))
    np.testing.assert_allclose(highest, bound, rtol=1e-2)
    self.assertLess(highest.max(), bound)
    std = found["projection"].std(axis=(0, 2))
    np.testing.assert_allclose(std, bound / np.sqrt(3), rtol=0.05)
    chex.assert_shape(found["embedding"], (2, 500, 16))
    np.testing.assert_allclose(found["embedding"].std(), 1, rtol=0.03)

  def test_labels_are_of_the_largest_cosine_in_float64(self):
    constants = jax.tree.map(np.float64, self.variables["constants"])
    for g in range(3):
      points = direction(Z @ constants["projection"][:, g])
      codewords = direction(constants["embedding"][g])
      cosines = points @ codewords.T
      np.testing.assert_array_equal(
        self.result.codes[:, g], cosines.argmax(axis=1)
      )
      np.testing.assert_allclose(
        self.result.metrics["quantization_error"][g],
        2 * (1 - cosines.max(axis=1)).mean() / 4,
        rtol=1e-4,
      )

  def test_labels_do_not_depend_on_lengths(self):
    lengths = np.geomspace(1e-9, 1e30, len(Z), dtype=np.float32)[:, None]
    codes = QUANTIZER.apply(self.variables, Z * lengths, method="encode")
    chex.assert_trees_all_equal(codes, self.result.codes)

  def test_values_have_about_the_direction_and_no_gradient(self):
    cosines = []
    for num_codebooks in (1, 16):
      quantizer = QUANTIZER.clone(num_codebooks=num_codebooks)
      variables = quantizer.init(jax.random.key(0), Z)
      values = quantizer.apply(variables, Z).values
      cosines.append((direction(values) * direction(Z)).sum(axis=1).mean())
    self.assertGreater(cosines[0], 0.3)
    self.assertGreater(cosines[1], 0.8)
    gradient = jax.grad(
      lambda z: QUANTIZER.apply(self.variables, z).values.sum()
    )(Z)
    self.assertFalse(gradient.any())

  def test_training_changes_nothing_and_optimizers_see_nothing(self):
    result, after = QUANTIZER.apply(
      self.variables, Z, train=True, mutable=nn.DenyList("params")
    )
    chex.assert_trees_all_equal(after, self.variables)
    chex.assert_trees_all_equal(result.codes, self.result.codes)
    self.assertEqual(result.loss, 0)
    state = optax.adam(1.0).init(self.variables.get("params", {}))
    self.assertFalse([x for x in jax.tree.leaves(state) if x.ndim])

  def test_inputs_far_from_zero_have_few_labels(self):
    # Why they are to be normalized.
    far = QUANTIZER.apply(self.variables, Z + 100)
    self.assertLess(far.metrics["usage"].max(), 0.1)
    self.assertGreater(self.result.metrics["usage"].min(), 0.7)

  @parameterized.parameters(
    ({"embedding_dim": 1}, "embedding_dim is 1; it must be an integer of at l"),
    ({"num_codebooks": 257}, "num_codebooks is 257; it must be at most 256"),
    ({"features": None}, "features is None; it must be an integer"),
  )
  def test_fields(self, fields, message):
    with self.assertRaisesRegex(ValueError, message):
      QUANTIZER.clone(**fields).check()
