from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

from adq_jax import sphere


class ToSphereTest(parameterized.TestCase):
  def test_points_by_hand(self):
    points = jnp.array([[3.0, -4.0], [0.0, 0.0], [0.0, -2e30], [3e-9, 4e-9]])
    expected = [[0.6, -0.8], [0.0, 0.0], [0.0, -1.0], [0.6, 0.8]]
    found = sphere.to_sphere(points)
    np.testing.assert_allclose(found, expected, rtol=1e-6)

  @parameterized.parameters(-15, -1, 60, 125)
  def test_a_power_of_two_changes_no_bit(self, exponent):
    points = jax.random.normal(jax.random.key(0), (50, 3))
    found = sphere.to_sphere(points * 2.0**exponent)
    np.testing.assert_array_equal(found, sphere.to_sphere(points))

  def test_the_gradient_has_nothing_along_the_point(self):
    point, weights = jnp.array([3.0, 4.0]), jnp.array([2.0, -1.0])
    gradient = jax.grad(lambda x: sphere.to_sphere(x[None])[0] @ weights)
    # (I - u u^T) w / |x| with u = (0.6, 0.8).
    np.testing.assert_allclose(gradient(point), [0.352, -0.264], rtol=1e-5)

  def test_zeros_have_no_direction_and_no_gradient(self):
    gradient = jax.grad(lambda x: sphere.to_sphere(x).sum())
    np.testing.assert_array_equal(gradient(jnp.zeros((1, 2))), [[0.0, 0.0]])
