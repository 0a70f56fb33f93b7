import itertools

from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np

from adq_jax import BSQ
from adq_jax import LFQ
from adq_jax.quantizers import binary
from adq_jax.streams import symbols


def entropies(points, temperature, size, group=None):
  """Returns the mean entropy of points, and that of their mean, in float64."""
  dim = points.shape[1]
  group = group or dim
  points = np.asarray(points, np.float64)

  def distributions(points):
    codes = itertools.product((-size, size), repeat=points.shape[1])
    logits = 2 * points @ np.array(list(codes)).T / temperature
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)

  def entropy(p):
    return -(p * np.log(np.maximum(p, 1e-300))).sum(axis=-1)

  of_points = entropy(distributions(points)).mean()
  of_batch = sum(
    entropy(distributions(points[:, i : i + group]).mean(axis=0))
    for i in range(0, dim, group)
  )
  return of_points, of_batch


class LFQTest(parameterized.TestCase):
  @parameterized.parameters(
    (1.0, 2, 0.807801, 1.033756),
    (1.0, 1, 0.807801, 1.051074),  # bit by bit, an upper bound
    (0.01, 2, 0.0, np.log(2)),
  )
  def test_losses_by_hand(self, temperature, group, of_points, of_batch):
    quantizer = LFQ(2, temperature=temperature, bits_per_group=group)
    z = jnp.array([[0.3, -0.2], [1.0, 0.5]])
    result = quantizer.apply({}, z)
    chex.assert_trees_all_equal(result.values, jnp.array([[1.0, -1], [1, 1]]))
    chex.assert_trees_all_equal(
      quantizer.to_index(result.codes), jnp.array([1, 3], jnp.int32)
    )
    found = [result.metrics[f"{name}_entropy"] for name in ("point", "batch")]
    expected = np.array([of_points, of_batch]) / np.log(2)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    loss = 0.25 * 0.345 + 0.1 * (of_points - of_batch)
    np.testing.assert_allclose(result.loss, loss, atol=1e-6)

  def test_zero_is_below_and_so_is_minus_zero(self):
    result = LFQ(3).apply({}, jnp.array([[0.0, -0.0, 1e-30]]))
    self.assertEqual(result.codes.tolist(), [[0, 0, 1]])

  def test_values_have_the_gradient_of_z(self):
    z = jax.random.normal(jax.random.key(0), (5, 4))
    weights = jax.random.normal(jax.random.key(1), (5, 4))
    gradient = jax.grad(lambda z: (LFQ(4).apply({}, z).values * weights).sum())
    chex.assert_trees_all_equal(gradient(z), weights)

  def test_entropies_see_how_groups_depend_on_each_other(self):
    z = 9 * jnp.array([[1.0, 1.0], [-1.0, -1.0]])
    is_real = jnp.ones(2, bool)
    for group, bits in ((2, 1), (1, 2)):
      found = binary.batch_entropy(4 * z, is_real, group)
      self.assertAlmostEqual(float(found), bits * np.log(2), places=5)

  def test_large_codebooks_take_memory_for_codes_and_points_apart(self):
    logits = jax.ShapeDtypeStruct((4096, 18), jnp.float32)
    is_real = jax.ShapeDtypeStruct((4096,), bool)
    gradient = jax.jit(
      jax.grad(lambda *x: binary.batch_entropy(*x, 18)),
    )
    compiled = gradient.lower(logits, is_real).compile()
    taken = compiled.memory_analysis().temp_size_in_bytes
    # Of points times codes it would be 4 GiB.
    self.assertLess(taken, 2**27)

  @parameterized.parameters(1, 3, 7, 20)
  def test_chunks_change_nothing(self, at_once):
    logits = jax.random.normal(jax.random.key(0), (20, 5))
    is_real = jnp.arange(20) % 3 > 0
    entropy = jax.value_and_grad(binary.batch_entropy)
    expected = entropy(logits, is_real, 5)
    found = entropy(logits, is_real, 5, at_once=at_once << 3)
    chex.assert_trees_all_close(found, expected, rtol=1e-5, atol=1e-6)


class BSQTest(parameterized.TestCase):
  def test_a_point_by_hand(self):
    quantizer = BSQ(4, commitment_cost=1.0, entropy_weight=0.0)
    result = quantizer.apply({}, jnp.array([[3.0, -1.0, 1.0, -0.5]]))
    chex.assert_trees_all_equal(
      result.values, jnp.array([[0.5, -0.5, 0.5, -0.5]])
    )
    self.assertEqual(quantizer.to_index(result.codes), 0b0101)
    np.testing.assert_allclose(result.loss, 0.360217 / 4, atol=1e-6)
    found = result.metrics["point_entropy"] * np.log(2)
    np.testing.assert_allclose(found, 2.394118, atol=1e-5)

  def test_gradients_are_of_the_sphere_and_of_shorter_numbers(self):
    z = jax.random.normal(jax.random.key(0), (3, 6))
    weights = jax.random.normal(jax.random.key(1), (3, 6))

    def smooth(z):
      return (z / jnp.linalg.norm(z, axis=1, keepdims=True) * weights).sum()

    gradient = jax.grad(lambda z: (BSQ(6).apply({}, z).values * weights).sum())
    expected = jax.grad(smooth)(z) / np.sqrt(6)
    np.testing.assert_allclose(gradient(z), expected, rtol=1e-4, atol=1e-6)

  @parameterized.parameters(1e-30, 1e-3, 1.0, 1e20, 3e38)
  def test_lengths_do_not_matter(self, scale):
    direction = jnp.array([[0.5, -0.25, 1.0]])
    expected = BSQ(3).apply({}, direction)
    found = BSQ(3).apply({}, direction * scale)
    chex.assert_trees_all_equal(found.codes, expected.codes)
    chex.assert_trees_all_equal(found.values, expected.values)
    if scale > 1e-4:
      chex.assert_trees_all_close(found.loss, expected.loss, rtol=1e-5)


class EntropyTest(parameterized.TestCase):
  @parameterized.product(
    quantizer=(
      LFQ(5, temperature=0.8),
      LFQ(5, temperature=0.8, bits_per_group=2),
      BSQ(5),
      BSQ(5, bits_per_group=3, temperature=0.3),
    ),
    masked=(False, True),
  )
  def test_they_are_those_in_float64(self, quantizer, masked):
    z = np.random.default_rng(0).normal(size=(30, 5)).astype(np.float32)
    mask = np.arange(30) < 21 if masked else np.ones(30, bool)
    points, size = z[mask], 1.0
    if isinstance(quantizer, BSQ):
      points = points / np.linalg.norm(points, axis=1, keepdims=True)
      size = 5**-0.5
    expected = entropies(
      points, quantizer.temperature, size, quantizer.bits_per_group
    )
    result = quantizer.apply({}, z, mask=mask)
    for name, nats in zip(("point", "batch"), expected, strict=True):
      bits = result.metrics[f"{name}_entropy"]
      np.testing.assert_allclose(bits, nats / np.log(2), rtol=1e-5)

  def test_of_18_bits_even_points_have_all_of_them(self):
    # Every code as often: here the logarithm must not have anything added.
    logits = jnp.zeros((1, 18))
    found = binary.batch_entropy(logits, jnp.ones(1, bool), 18)
    np.testing.assert_allclose(found, 18 * np.log(2), rtol=1e-6)

  def test_streams(self):
    (symbol,) = symbols(LFQ(18).streams)
    self.assertEqual((symbol.name, symbol.alphabet), ("bits", 2**18))
    self.assertLen(symbols(BSQ(36).streams), 36)


class ErrorsTest(parameterized.TestCase):
  @parameterized.parameters(
    ({"num_bits": 0}, "num_bits is 0"),
    ({"temperature": 0.0}, "temperature is 0.0; it must be above 0"),
    ({"entropy_weight": -1.0}, "entropy_weight is -1.0"),
    ({"bits_per_group": 21}, "bits_per_group is 21; it must be at most 20"),
    ({"commitment_cost": -1.0}, "commitment_cost is -1.0"),
  )
  def test_fields(self, fields, message):
    for cls in (LFQ, BSQ):
      with self.assertRaisesRegex(ValueError, message):
        cls(**{"num_bits": 4, **fields}).check()

  def test_an_index_of_too_many_bits(self):
    with self.assertRaisesRegex(ValueError, "keep the 36 levels apart"):
      BSQ(36).to_index(jnp.zeros((1, 36), jnp.int32))
