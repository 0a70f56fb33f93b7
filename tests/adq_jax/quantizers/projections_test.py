from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np

from adq_jax.quantizers import projections


class MakeTest(parameterized.TestCase):
  @parameterized.parameters((5, 3, 1), (3, 5, 1), (4, 4, 1), (5, 3, 3))
  def test_they_start_as_the_leading_features(self, features, dim, kernel):
    pair = projections.make_pair(features, dim, output_kernel=kernel)
    width = min(features, dim)
    for project, given, wanted in zip(
      pair, (features, dim), (dim, features), strict=True
    ):
      z = jax.random.normal(jax.random.key(0), (2, 4, 4, given))
      projected, _ = project.init_with_output(jax.random.key(1), z)
      chex.assert_shape(projected, (2, 4, 4, wanted))
      chex.assert_trees_all_equal(projected[..., :width], z[..., :width])
      self.assertFalse(projected[..., width:].any())

  @parameterized.parameters(1, 3)
  def test_as_in_pytorch_all_is_uniform_below_one_by_the_root_of_fan_in(
    self, kernel
  ):
    pair = projections.make_pair(200, 150, output_kernel=kernel, init="pytorch")
    for project, inputs, fan_in in zip(
      pair, (200, 150), (200, 150 * kernel**2), strict=True
    ):
      z = jnp.zeros((1, 4, 4, inputs))
      bound = fan_in**-0.5
      for values in jax.tree.leaves(project.init(jax.random.key(1), z)):
        self.assertLessEqual(abs(values).max(), bound)
        self.assertGreater(values.max(), 0.9 * bound)
        self.assertLess(values.min(), -0.9 * bound)

  def test_an_init_that_is_none(self):
    with self.assertRaisesRegex(
      ValueError, "projection_init is 'x'; .*'identity', 'pytorch'"
    ):
      projections.check_init("projection_init", "x")

  @parameterized.parameters((3, None, "without features"), (2, 4, "odd"))
  def test_a_kernel_that_cannot_be(self, kernel, features, message):
    with self.assertRaisesRegex(
      ValueError, f"output_kernel is {kernel}; .*{message}"
    ):
      projections.check_kernel(kernel, features)


class PointsTest(parameterized.TestCase):
  def test_padding_and_what_is_not_finite_is_zeros(self):
    z = jnp.ones((2, 3, 2)).at[0, 1].set(np.nan).at[1, 0, 0].set(np.inf)
    mask = jnp.ones((2, 3)).at[1, 2].set(0)
    for project in (None, lambda x: x):
      points, is_finite = projections.to_points(z, mask, project)
      np.testing.assert_array_equal(points[:, 0], [1, 0, 1, 0, 1, 0])
      np.testing.assert_array_equal(
        is_finite, [True, False, True, False, True, True]
      )

  def test_what_a_projection_makes_infinite_is_zeros(self):
    points, is_finite = projections.to_points(
      jnp.array([[1.0], [3e38]]), None, lambda x: 10 * x
    )
    np.testing.assert_array_equal(points, [[10], [0]])
    np.testing.assert_array_equal(is_finite, [True, False])

  def test_points_come_back_in_their_shape(self):
    z = jnp.arange(24.0, dtype=jnp.bfloat16).reshape(2, 3, 4)
    points, _ = projections.to_points(z, None, None)
    chex.assert_type(points, jnp.float32)
    back = projections.from_points(points, (2, 3), None)
    chex.assert_trees_all_equal(back, z.astype(jnp.float32))
    twice = projections.from_points(points, (2, 3), lambda x: 2 * x)
    chex.assert_trees_all_equal(twice, 2 * back)
