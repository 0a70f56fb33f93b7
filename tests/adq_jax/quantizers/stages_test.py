from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np

from adq_jax.codebook.statistics import Batch
from adq_jax.quantizers import stages as of_stages

NOTHING = of_stages.NOTHING


def batch_of(points):
  points = jnp.asarray(points, jnp.float32)
  return Batch(points, jnp.ones(len(points), bool))


class StagesTest(parameterized.TestCase):
  @parameterized.parameters(jnp.int8, jnp.int32, jnp.uint8, jnp.uint32)
  def test_the_code_that_stands_for_nothing(self, dtype):
    is_signed = jnp.issubdtype(dtype, jnp.signedinteger)
    codes = jnp.array([0, 3, NOTHING if is_signed else 255], dtype)
    chex.assert_trees_all_equal(
      of_stages.is_used(codes), jnp.array([True, True, not is_signed])
    )

  def test_codes_are_cut_where_a_point_uses_no_stage_more(self):
    codes = jnp.array([[5, 6, 7], [8, 9, 1], [2, 3, 4]])
    chex.assert_trees_all_equal(
      of_stages.cut(codes, jnp.array([1, 3, 2])),
      jnp.array([[5, NOTHING, NOTHING], [8, 9, 1], [2, 3, NOTHING]]),
    )

  def test_a_stage_sees_what_the_stages_before_it_left(self):
    batch = batch_of([[1.0, 2.0], [3.0, 5.0]])
    codes = jnp.array([[4, 0], [1, NOTHING]], jnp.int32)
    taken = [
      jnp.array([[1.0, 0.0], [2.0, 2.0]]),
      jnp.array([[0.0, 1.0], [0.0, 0.0]]),
    ]
    first, second = of_stages.follow(batch, codes, taken)
    chex.assert_trees_all_equal(first.batch.points, batch.points)
    chex.assert_trees_all_equal(first.error, jnp.array([2.0, 5.0]))
    chex.assert_trees_all_equal(
      second.batch.points, jnp.array([[0.0, 2.0], [1.0, 3.0]])
    )
    chex.assert_trees_all_equal(second.batch.is_real, jnp.array([True, False]))
    chex.assert_trees_all_equal(second.error, jnp.array([0.5, 0.0]))
    joined = of_stages.join([first.batch, second.batch])
    chex.assert_trees_all_equal(
      joined.is_real, jnp.array([True, True, True, False])
    )
    chex.assert_trees_all_equal(joined.points[2], jnp.array([0.0, 2.0]))
    total = sum(taken)
    # (2 + 5) / 2 points and (0.5 + 0) / 2 points, each of 2 stages.
    chex.assert_trees_all_close(
      of_stages.commitment([first, second], batch, total, "all"),
      (3.5 + 0.25) / 2,
    )
    # The second point ends after the first stage.
    chex.assert_trees_all_close(
      of_stages.commitment([first, second], batch, total, "last"),
      (0.5 + 5.0) / 2,
    )

  def test_depths_are_uniform_and_of_their_examples(self):
    key, index = jax.random.key(0), jnp.arange(4000)
    depths = of_stages.sample_depths(key, 1.0, 4, index)
    counts = np.bincount(depths, minlength=5)
    self.assertEqual(counts[0], 0)
    # Four standard deviations of 1,000 are 110.
    np.testing.assert_allclose(counts[1:], 1000, atol=110)
    chex.assert_trees_all_equal(
      of_stages.sample_depths(key, 1.0, 4, index[::-7]), depths[::-7]
    )
    half = of_stages.sample_depths(key, 0.5, 4, index)
    np.testing.assert_allclose((half == 4).mean(), 0.5 + 0.5 / 4, atol=0.04)
    none = of_stages.sample_depths(key, 0.0, 4, index)
    self.assertTrue((none == 4).all())
