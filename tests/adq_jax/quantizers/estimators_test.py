from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np

from adq_jax import AdaptiveQuantizer
from adq_jax import Directional
from adq_jax import GradientUpdate
from adq_jax import ResidualQuantizer
from adq_jax import RotationTrick
from adq_jax import StraightThrough
from adq_jax import Synchronized
from adq_jax import VectorQuantizer
from adq_jax.quantizers import estimators
from tests.support.small import bits
from tests.support.small import make_variables
from tests.support.small import train


def gradients(estimator, quantized, points, weights):
  """Those of the codewords and of the points, where values have `weights`."""

  def total(quantized, points):
    values = estimator.estimate(quantized, points)
    return jnp.sum(weights * values), values

  arrays = (jnp.array(quantized, jnp.float32), jnp.array(points, jnp.float32))
  weights = jnp.array(weights, jnp.float32)
  found, values = jax.grad(total, (0, 1), has_aux=True)(*arrays)
  chex.assert_trees_all_equal(bits(values), bits(arrays[0]))
  return found


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


class RotationTrickTest(parameterized.TestCase):
  def test_a_gradient_is_turned_and_scaled(self):
    # R = [[0, -1], [1, 0]] and the scale is 0.5.
    of_codewords, of_points = gradients(
      RotationTrick(), [[0, 1]] * 2, [[2, 0]] * 2, [[1, 0], [0, 1]]
    )
    np.testing.assert_allclose(of_points, [[0, -0.5], [0.5, 0]], atol=1e-6)
    self.assertFalse(of_codewords.any())

  def test_it_is_that_of_a_rotation_as_a_matrix(self):
    rng = np.random.default_rng(0)
    points, quantized, weights = rng.normal(size=(3, 6, 5))
    expected = []
    for z, q, g in zip(points, quantized, weights, strict=True):
      x, y = z / np.linalg.norm(z), q / np.linalg.norm(q)
      w = (x + y) / np.linalg.norm(x + y)
      turn = np.eye(5) - 2 * np.outer(w, w) + 2 * np.outer(y, x)
      scale = np.linalg.norm(q) / np.linalg.norm(z)
      np.testing.assert_allclose(scale * turn @ z, q)
      expected.append(scale * turn.T @ g)
    _, found = gradients(RotationTrick(), quantized, points, weights)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)

  def test_opposite_vectors_have_the_reflection_of_their_line(self):
    points = np.array([[1, 0], [0.6, -0.8], [0.1, 0.3], [1, 1e-5]])
    quantized = points * [[-2]] + [[0], [0], [0], [1e-6]]
    _, found = gradients(RotationTrick(), quantized, points, [[3, 4]] * 4)
    np.testing.assert_allclose(found[0], [-6, 8])
    np.testing.assert_allclose(
      np.linalg.norm(found, axis=1), np.full(4, 10.0), rtol=1e-5
    )

  def test_where_there_is_no_direction_it_is_straight_through(self):
    points = [[0, 0], [1, 2], [1e-9, 0], [0, 0]]
    quantized = [[1, 2], [0, 0], [5, 5], [0, 0]]
    weights = np.arange(1.0, 9.0).reshape(4, 2)
    _, found = gradients(RotationTrick(), quantized, points, weights)
    np.testing.assert_array_equal(found, weights)

  def test_one_number_is_straight_through(self):
    _, found = gradients(RotationTrick(), [[-3]], [[2]], [[5]])
    np.testing.assert_array_equal(found, [[5]])


class DirectionalTest(parameterized.TestCase):
  def test_codewords_have_the_part_along_the_error(self):
    # From (0, 0) to (3, 4) the direction is (0.6, 0.8).
    of_codewords, of_points = gradients(
      Directional(), [[3, 4]] * 2, [[0, 0]] * 2, [[1, 0], [0.6, 0.8]]
    )
    np.testing.assert_allclose(
      of_codewords, [[0.36, 0.48], [0.6, 0.8]], atol=1e-6
    )
    np.testing.assert_allclose(of_points, [[0.64, -0.48], [0, 0]], atol=1e-6)

  def test_a_point_that_is_its_codeword_has_all_of_it(self):
    of_codewords, of_points = gradients(
      Directional(), [[3, 4]], [[3, 4]], [[1, 2]]
    )
    np.testing.assert_array_equal(of_points, [[1, 2]])
    np.testing.assert_array_equal(of_codewords, [[0, 0]])

  def test_points_of_one_number_have_none(self):
    of_codewords, of_points = gradients(Directional(), [[3]], [[1]], [[5]])
    np.testing.assert_array_equal(of_codewords, [[5]])
    np.testing.assert_array_equal(of_points, [[0]])

  def test_it_trains_a_codebook_with_no_loss_of_its_own(self):
    quantizer = VectorQuantizer(
      2,
      2,
      commitment_cost=0.0,
      update=GradientUpdate(codebook_cost=0.0),
      estimator=Directional(),
    )
    codewords = jnp.array([[3.0, 4.0], [-50.0, 0.0]])
    z = jnp.zeros((1, 2))
    variables = make_variables(quantizer, z)
    variables["params"] = {"embedding": codewords}
    weights = jnp.array([[2.0, 0.0]])  # of a mean of two numbers
    (gradient, of_z), result, _ = train(
      quantizer, variables, z, weights=weights
    )
    self.assertEqual(result.loss, 0)
    np.testing.assert_allclose(
      gradient["embedding"], [[0.36, 0.48], [0, 0]], atol=1e-6
    )
    np.testing.assert_allclose(of_z, [[0.64, -0.48]], atol=1e-6)


class SynchronizedTest(parameterized.TestCase):
  def test_codewords_have_the_gradient_times_the_weight(self):
    of_codewords, of_points = gradients(
      Synchronized(weight=2.0), [[1, 1]], [[0, 3]], [[1, 1]]
    )
    np.testing.assert_array_equal(of_points, [[1, 1]])
    np.testing.assert_array_equal(of_codewords, [[2, 2]])

  def test_the_weight_is_checked(self):
    with self.assertRaisesRegex(ValueError, "estimator.weight is -1"):
      VectorQuantizer(2, 2, estimator=Synchronized(-1)).check()

  def test_codewords_that_learn_by_averages_are_refused(self):
    for quantizer in (
      VectorQuantizer(8, 2, estimator=Synchronized()),
      ResidualQuantizer(2, 8, 2, estimator=Directional()),
      AdaptiveQuantizer(((8, 2), (6, 3)), 4, estimator=Directional()),
    ):
      with self.assertRaisesRegex(
        ValueError, "update is EmaUpdate.* where estimator is (Sync|Direc)"
      ):
        quantizer.check()

  def test_all_stages_have_the_gradient(self):
    quantizer = ResidualQuantizer(
      2, 3, 2, update=GradientUpdate(0.9, 0.0), estimator=Synchronized(0.5)
    )
    z = jnp.array([[1.0, 2.0]])
    variables = make_variables(quantizer, z)
    (gradient, _), result, _ = train(
      quantizer, variables, z, weights=jnp.array([[2.0, -4.0]])
    )
    books = [x for _, x in sorted(gradient.items())]
    self.assertLen(books, 2)
    for code, book in zip(result.codes[0], books, strict=True):
      np.testing.assert_array_equal(book["embedding"][code], [0.5, -1.0])
