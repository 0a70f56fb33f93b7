from absl.testing import parameterized
import jax.numpy as jnp
import numpy as np

from adq_jax.search import lanes


class LanesTest(parameterized.TestCase):
  def test_a_lane_has_neighbouring_codewords(self):
    codewords = np.arange(600, dtype=np.float32).reshape(300, 2)
    found = lanes.cut(jnp.asarray(codewords), in_one_go=2)
    self.assertEqual(found.shape, (128, 2, 2, 2))
    rows = np.asarray(found).reshape(512, 2)
    np.testing.assert_array_equal(rows[:300], codewords)
    self.assertTrue(np.isinf(rows[300:]).all())

  def test_the_filler_is_infinitely_far_without_a_penalty(self):
    # Times a price of 0 an infinite penalty would be NaN.
    both = lanes.cut_all(jnp.ones((300, 2)), jnp.ones((300, 3)), in_one_go=2)
    codewords, penalties = (np.reshape(x, (512, -1)) for x in both)
    np.testing.assert_array_equal(penalties[:300], np.ones((300, 3)))
    np.testing.assert_array_equal(penalties[300:], np.zeros((212, 3)))
    self.assertTrue(np.isinf(codewords[300:]).all())

  @parameterized.parameters((0.0, 5), (30.0, 2))
  def test_a_lane_is_searched_in_chunks(self, price, index):
    # Of 7 codewords, 5 and 2, for they are wide.
    codewords = jnp.tile(jnp.arange(7.0)[:, None], (1, 100))
    penalties = jnp.array([[90.0], [90], [0], [90], [50], [50], [50]])
    both = codewords[None, None], penalties[None, None]
    found = lanes.search_lane(
      jnp.full((1, 100), 5.2),
      both,
      jnp.zeros(1, jnp.int32),
      7,
      jnp.array([[price]]),
    )
    self.assertEqual(found.tolist(), [index])

  def test_the_first_of_several_matches(self):
    is_match = jnp.array([[0, 0, 0], [1, 0, 0], [1, 0, 1]], bool)
    np.testing.assert_array_equal(lanes.first_of(is_match), [1, 0, 2])

  def test_the_smallest_value_of_each_lane(self):
    cut = lanes.cut(jnp.arange(256.0)[:, None], in_one_go=1)
    points_t = jnp.array([[0.0, 3.0]])
    found = lanes.smallest_of(
      lambda block: (abs(own - points_t) for own in block), points_t, cut
    )
    # Lane l has the numbers 2 l and 2 l + 1.
    np.testing.assert_array_equal(found[:3, 0], [0, 2, 4])
    np.testing.assert_array_equal(found[:3, 1], [2, 0, 1])

  @parameterized.parameters((0.0, 1, 2), (2.4, 1, 2), (9.0, 1, 3), (9.0, 0, 1))
  def test_the_nearest_of_one_lane(self, point, lane, index):
    codewords = jnp.arange(256.0)[:, None]
    found = lanes.search_lane(
      jnp.array([[point]]),
      lanes.cut_all(codewords, None, 1),
      jnp.array([lane], jnp.int32),
      256,
    )
    self.assertEqual(found.tolist(), [index])

  def test_the_first_part_with_the_smallest_distance_wins(self):
    distances = jnp.array([[3.0, jnp.inf], [1.0, jnp.inf], [1.0, jnp.inf]])
    indices = jnp.array([[5, 5], [6, 6], [7, 7]], jnp.int32)
    points, codewords = jnp.zeros((2, 1)), jnp.zeros((3, 1))
    found = lanes.nearest_of_parts(
      lambda part: part, (distances, indices), points, codewords
    )
    self.assertEqual(found.tolist(), [6, 0])
