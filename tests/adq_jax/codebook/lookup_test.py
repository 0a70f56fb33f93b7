from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np

from adq_jax.codebook import lookup

CODEWORDS = jnp.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])


class NearestTest(parameterized.TestCase):
  def test_points_get_the_nearest_and_others_code_0(self):
    points = jnp.array([[9.0, 1.0], [1.0, 9.0], [0.0, 9.0]])
    is_real = jnp.array([True, True, False])
    codes, codewords = lookup.nearest(points, is_real, CODEWORDS, None)
    np.testing.assert_array_equal(codes, [1, 2, 0])
    chex.assert_trees_all_equal(codewords, CODEWORDS[codes])

  def test_a_penalty_is_added_at_the_price_of_each_point(self):
    points = jnp.array([[9.0, 1.0], [9.0, 1.0], [9.0, 1.0]])
    is_real = jnp.array([True, True, False])
    codes, codewords = lookup.nearest(
      points,
      is_real,
      CODEWORDS,
      None,
      jnp.array([5.0, 100.0, 0.0]),
      jnp.array([0.1, 10.0, 10.0]),
    )
    # 82 + 50, 2 + 1000 and 162 at the price of 10.
    np.testing.assert_array_equal(codes, [1, 0, 0])
    chex.assert_trees_all_equal(codewords, CODEWORDS[codes])


class NearestOfChosenTest(parameterized.TestCase):
  @parameterized.parameters(0, 5, 1500)
  def test_each_point_is_searched_for_where_it_chose(self, num_points):
    rng = np.random.default_rng(0)
    book = jnp.asarray(rng.integers(0, 3, num_points), jnp.int32)
    spaces = [
      tuple(
        jnp.asarray(rng.normal(size=(count, dim)), jnp.float32)
        for count in (num_points, size)
      )
      for size, dim in ((20, 3), (9, 1), (30, 2))
    ]
    codes = jax.jit(lookup.nearest_of_chosen)(book, spaces)
    chex.assert_shape(codes, (num_points,))
    for i, (points, codewords) in enumerate(spaces):
      is_real = jnp.ones(num_points, bool)
      expected, _ = lookup.nearest(points, is_real, codewords, None)
      chex.assert_trees_all_equal(codes[book == i], expected[book == i])


class TakeTest(parameterized.TestCase):
  @parameterized.parameters(np.int8, np.uint8, np.int32, np.int64)
  def test_codes_of_any_shape_and_dtype(self, dtype):
    codes = np.array([[2, 0], [1, 3]], dtype)
    taken = lookup.take(codes, CODEWORDS, 3, None)
    chex.assert_trees_all_equal(taken[:3], CODEWORDS[jnp.array([2, 0, 1])])
    self.assertTrue(jnp.isnan(taken[3]).all())

  def test_a_negative_code_is_out_of_range(self):
    taken = lookup.take(jnp.array([-1]), CODEWORDS, 3, None)
    self.assertTrue(jnp.isnan(taken).all())

  def test_good_codes_make_no_nan_on_the_way(self):
    with jax.debug_nans(True):
      taken = lookup.take(jnp.array([2]), CODEWORDS, 3, None)
    chex.assert_trees_all_equal(taken, CODEWORDS[2:])
