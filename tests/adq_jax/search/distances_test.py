from absl.testing import parameterized
import jax.numpy as jnp
import numpy as np

from adq_jax.search import distances


class DistancesTest(parameterized.TestCase):
  @parameterized.parameters(1, 16, 17, 100)
  def test_squares_are_added_up(self, count):
    x = np.random.default_rng(0).normal(size=(count, 7)).astype(np.float32)
    found = distances.sum_of_squares(count, lambda d: jnp.asarray(x[d]))
    np.testing.assert_allclose(found, np.square(x).sum(axis=0), rtol=1e-6)
