from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np

from adq_jax.codebook import samples


class SampleTest(parameterized.TestCase):
  def test_noise_is_one_percent_of_the_standard_deviation(self):
    points = jnp.tile(jnp.array([[0.0, 0.0], [2.0, 200.0]]), (50, 1))
    sampled = samples.sample(
      jax.random.key(0), points, jnp.ones(100, bool), jnp.arange(5000)
    )
    nearest = jnp.where(sampled[:, :1] > 1, points[1], points[0])
    noise = np.asarray(sampled - nearest).std(axis=0)
    chex.assert_trees_all_close(noise, np.array([0.01, 1.0]), rtol=0.05)

  def test_what_a_codeword_gets_does_not_depend_on_the_others(self):
    points = jax.random.normal(jax.random.key(1), (9, 2)).at[4].set(jnp.nan)
    is_real = jnp.ones(9, bool).at[4].set(False)
    args = (jax.random.key(2), points, is_real)
    all_sampled = samples.sample(*args, jnp.arange(20))
    chex.assert_tree_all_finite(all_sampled)
    chex.assert_trees_all_equal(
      samples.sample(*args, jnp.array([17, 3])), all_sampled[jnp.array([17, 3])]
    )
