from unittest import mock

from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np

from adq_jax.search import few
from tests.support.search import make_data
from tests.support.search import make_kind


def expected_of(points, codewords, count):
  """The indices and squared distances in float64, the lowest index first."""
  points, codewords = points.astype(np.float64), codewords.astype(np.float64)
  squares = np.square(points[:, None] - codewords[None]).sum(axis=-1)
  order = np.argsort(squares, axis=1, kind="stable")[:, :count]
  return order, np.take_along_axis(squares, order, axis=1)


class FewTest(parameterized.TestCase):
  @parameterized.product(dim=(1, 3, 17), count=(1, 5, 40))
  def test_they_are_the_nearest_in_order(self, dim, count):
    points, codewords = make_data(30, 40, dim)
    with mock.patch.object(few, "_BLOCK", 16):  # the last one is not full
      found, squares = few.nearest_few.__wrapped__(points, codewords, count)
    expected, distances = expected_of(points, codewords, count)
    chex.assert_trees_all_equal(found, expected.astype(np.int32))
    chex.assert_trees_all_close(squares, distances, rtol=1e-5)

  @parameterized.parameters("integers", "duplicates", "equal codewords")
  def test_the_lowest_index_comes_first_of_equally_near_ones(self, kind):
    points, codewords = make_kind(kind, 50, 60, 2, seed=1)
    if kind == "duplicates":  # so that equal ones are equal in float32 alone
      points, codewords = np.round(points, 1), np.round(codewords, 1)
    with mock.patch.object(few, "_BLOCK", 16):
      found, _ = few.nearest_few.__wrapped__(points, codewords, 20)
    squares = np.square(points[:, None] - codewords[None]).sum(axis=-1)
    order = np.argsort(squares, axis=1, kind="stable")[:, :20]
    chex.assert_trees_all_equal(found, order.astype(np.int32))

  def test_codewords_that_are_not_finite_come_last_and_in_range(self):
    points, codewords = make_data(10, 12, 2)
    codewords[[0, 7]] = np.nan
    codewords[3] = -np.inf
    found, squares = few.nearest_few(points, codewords, 12)
    self.assertTrue(np.isfinite(squares[:, :9]).all())
    self.assertTrue(np.isinf(squares[:, 9:]).all())
    self.assertFalse(np.isin(found[:, :9], [0, 3, 7]).any())
    self.assertTrue(((found >= 0) & (found < 12)).all())

  @parameterized.parameters(None, 1, 3)
  def test_penalties_are_part_of_the_squared_distances(self, tables):
    points, codewords = make_data(30, 40, 3)
    rng = np.random.default_rng(1)
    rows = () if tables is None else (tables,)
    penalty = rng.exponential(size=(*rows, 40)).astype(np.float32)
    price = rng.exponential(size=(30, *rows)).astype(np.float32)
    price[::4] = 0
    with mock.patch.object(few, "_BLOCK", 16):  # the last one is not full
      found, sums = few.nearest_few.__wrapped__(
        points, codewords, 7, penalty, price
      )
    differences = points[:, None].astype(np.float64) - codewords[None]
    every_sum = np.square(differences).sum(axis=-1)
    every_sum += price.reshape(30, -1) @ np.atleast_2d(penalty)
    expected = np.argsort(every_sum, axis=1, kind="stable")[:, :7]
    chex.assert_trees_all_equal(found, expected.astype(np.int32))
    chex.assert_trees_all_close(
      sums, np.take_along_axis(every_sum, expected, axis=1), rtol=1e-5
    )

  def test_an_infinite_penalty_comes_last_also_at_a_price_of_0(self):
    points, codewords = make_data(10, 12, 2)
    penalty = np.zeros(12, np.float32)
    penalty[::2] = np.inf
    found, sums = few.nearest_few(
      points, codewords, 12, penalty, np.zeros(10, np.float32)
    )
    self.assertTrue((found[:, :6] % 2 == 1).all())
    self.assertTrue(np.isfinite(sums[:, :6]).all())
    self.assertTrue(np.isinf(sums[:, 6:]).all())

  def test_penalties_of_another_number_are_refused(self):
    points, codewords = make_data(10, 12, 2)
    message = r"penalty has shape \(11,\); its last axis must be 12"
    with self.assertRaisesRegex(ValueError, message):
      few.nearest_few(points, codewords, 3, np.ones(11, np.float32))

  @parameterized.parameters(False, True)
  def test_chunks_of_points_change_nothing(self, has_penalty):
    points, codewords = make_data(41, 30, 3)
    rng = np.random.default_rng(1)
    more = rng.random((2, 30), np.float32), rng.random((41, 2), np.float32)
    args = (points, codewords, 4, *(more if has_penalty else ()))
    expected = few.nearest_few(*args)
    with mock.patch.object(few, "points_at_once", lambda width: 13):
      found = few.nearest_few.__wrapped__(*args)
    chex.assert_trees_all_equal(found, expected)

  def test_memory_does_not_grow_with_the_number_of_codewords(self):
    def memory(size):
      points = jax.ShapeDtypeStruct((1024, 4), jnp.float32)
      codewords = jax.ShapeDtypeStruct((size, 4), jnp.float32)
      program = few.nearest_few.lower(points, codewords, 4).compile()
      return program.memory_analysis().temp_size_in_bytes

    # All distances would take 256 MiB.
    self.assertLess(memory(2**16), 2**25)

  def test_no_gradient_flows(self):
    points, codewords = make_data(5, 6, 3)
    gradient = jax.grad(
      lambda *x: few.nearest_few(*x, 2)[1].sum(), argnums=(0, 1)
    )(points, codewords)
    chex.assert_trees_all_equal(
      gradient, (np.zeros_like(points), np.zeros_like(codewords))
    )
