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
    cls.variables = jax.jit(QUANTIZER.init)(jax.random.key(0), Z)
    cls.evaluate = staticmethod(jax.jit(QUANTIZER.apply))
    cls.result = cls.evaluate(cls.variables, Z)

  def test_constants_are_xavier_uniform_and_standard_normal(self):
    self.assertEqual(set(self.variables), {"constants"})
    large = RandomProjectionQuantizer(500, 16, features=80, num_codebooks=2)
    init = jax.jit(large.init)
    found = init(jax.random.key(1), jnp.zeros((1, 80)))["constants"]
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
    found = self.evaluate(self.variables, Z * lengths)
    chex.assert_trees_all_equal(found.codes, self.result.codes)

  def test_values_are_codewords_times_matrices_and_have_about_the_direction(
    self,
  ):
    constants = jax.tree.map(np.float64, self.variables["constants"])
    expected = 0
    for g in range(3):
      codewords = direction(constants["embedding"][g])
      taken = codewords[self.result.codes[:, g]]
      expected += taken @ constants["projection"][:, g].T / 3
    np.testing.assert_allclose(self.result.values, expected, atol=1e-6)
    cosines = (direction(expected) * direction(Z)).sum(axis=1)
    self.assertGreater(cosines.mean(), 0.5)

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
    far = self.evaluate(self.variables, Z + 100)
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
