"""The search for the smallest sum of squared distance and penalty."""

import functools
from unittest import mock

from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np

from adq_jax import index_codebook
from adq_jax import nearest_codes
from adq_jax.search import nearest
from adq_jax.search import scan
from tests.support.exactness import check_sums
from tests.support.exactness import sums_of
from tests.support.search import make_data
from tests.support.search import make_kind
from tests.support.search import NOTHING
from tests.support.search import nothing_found
from tests.support.search import quickly_compiled

EXACT = ("dense", "blocked", "screened")


@functools.cache
def program(method):
  """Returns a search, compiled once for each shape."""
  return jax.jit(
    lambda z, c, p, r=None: nearest_codes(
      z, c, method=method, penalty=p, price=r
    )
  )


def find(points, codewords, penalty, method="auto", price=None):
  return np.asarray(program(method)(points, codewords, penalty, price))


class SearchTest(parameterized.TestCase):
  def check(self, points, codewords, penalty, method, price=None):
    """The sum found is the smallest but for rounding."""
    found = find(points, codewords, penalty, method, price)
    check_sums(points, codewords, penalty, found, price)
    return found


class PenaltyTest(SearchTest):
  @parameterized.product(
    method=(*EXACT, "auto"), dim=(1, 6, 33), scale=(1e-3, 1.0, 100.0)
  )
  def test_it_finds_the_smallest_sum(self, method, dim, scale):
    points, codewords = make_data(40, 200, dim)
    rng = np.random.default_rng(1)
    penalty = (scale * rng.exponential(size=200)).astype(np.float32)
    found = self.check(points, codewords, penalty, method)
    if scale == 1:
      self.assertTrue((found != nearest_codes(points, codewords)).any())

  @parameterized.product(method=EXACT, dim=(1, 6, 33), offset=(0.0, 1000.0))
  def test_sums_that_are_equal_but_for_rounding(self, method, dim, offset):
    # Of a point, all sums are equal; of its neighbours, nearly.
    points, codewords = make_data(40, 200, dim)
    points[1:] = points[0] + 1e-5 * points[1:]
    squares = sums_of(points[:1], codewords, np.zeros(200))[0]
    penalty = (squares.max() - squares).astype(np.float32)
    self.check(
      points + np.float32(offset),
      codewords + np.float32(offset),
      penalty,
      method,
    )

  @parameterized.product(
    method=EXACT, kind=("integers", "duplicates", "equal codewords")
  )
  def test_the_lowest_index_wins_a_tie(self, method, kind):
    for dim in (1, 6):
      points, codewords = make_kind(kind, 40, 200, dim, seed=2)
      # Multiples of 1/8, whose sums of squares are exact.
      points, codewords = (np.round(8 * x) / 8 for x in (points, codewords))
      rng = np.random.default_rng(3)
      penalty = rng.integers(0, 4, 200).astype(np.float32)
      sums = sums_of(points, codewords, penalty)
      is_tied = (sums == sums.min(axis=1, keepdims=True)).sum(axis=1) > 1
      self.assertTrue(is_tied.any())
      found = find(points, codewords, penalty, method)
      np.testing.assert_array_equal(found, sums.argmin(axis=1))

  @parameterized.parameters("outliers", "far points", "clusters")
  def test_codewords_and_points_that_trouble_a_search(self, kind):
    points, codewords = make_kind(kind, 40, 200, 6, seed=4)
    rng = np.random.default_rng(5)
    penalty = rng.exponential(size=200).astype(np.float32)
    penalty[::7] *= 1e6
    for method in EXACT:
      self.check(points, codewords, penalty, method)

  @parameterized.product(method=EXACT, dim=(1, 6))
  def test_what_has_an_infinite_sum_is_not_found(self, method, dim):
    points, codewords = make_data(40, 200, dim)
    points[3] = np.nan
    codewords[5] = np.nan
    penalty = np.zeros(200, np.float32)
    penalty[::2] = np.inf
    found = find(points, codewords, penalty, method)
    self.assertEqual(found[3], 0)
    others = np.delete(found, 3)
    self.assertTrue((others % 2 == 1).all())
    self.assertFalse((others == 5).any())
    nothing = find(points, codewords, np.full(200, np.inf, np.float32), method)
    np.testing.assert_array_equal(nothing, 0)
    # NaN is infinite, and what is negative 0, where values are not seen.
    strange = np.where(np.isinf(penalty), np.nan, -1).astype(np.float32)
    np.testing.assert_array_equal(
      find(points, codewords, strange, method), found
    )

  @parameterized.parameters(("sorted", 1), ("cells", 3), ("pallas", 5))
  def test_other_methods_leave_it_to_one_that_adds_penalties(self, method, dim):
    points, codewords = make_data(40, 100, dim)
    rng = np.random.default_rng(1)
    penalty = rng.exponential(size=100).astype(np.float32)
    self.check(points, codewords, penalty, method)

  @parameterized.parameters(*EXACT, "auto")
  def test_no_penalty_and_penalties_of_zero_are_alike(self, method):
    points, codewords = make_data(40, 200, 6)
    np.testing.assert_array_equal(
      find(points, codewords, np.zeros(200, np.float32), method),
      nearest_codes(points, codewords, method=method),
    )

  def test_chunks_change_nothing(self):
    points, codewords = make_data(41, 50, 6)
    penalty = np.random.default_rng(1).exponential(size=50).astype(np.float32)
    expected = find(points, codewords, penalty)
    jax.clear_caches()
    self.addCleanup(jax.clear_caches)
    with mock.patch.object(nearest, "points_at_once", lambda dim: 13):
      np.testing.assert_array_equal(find(points, codewords, penalty), expected)

  def test_memory_does_not_grow_with_the_number_of_codewords(self):
    for dim in (2, 8):
      shapes = (
        jax.ShapeDtypeStruct(shape, jnp.float32)
        for shape in ((2**14, dim), (2**14, dim), (2**14,))
      )
      search = jax.jit(lambda z, c, p: nearest_codes(z, c, penalty=p))
      analysis = search.lower(*shapes).compile().memory_analysis()
      # All sums would take a gibibyte.
      self.assertLess(analysis.temp_size_in_bytes, 2**26)

  def test_no_gradient_flows(self):
    points, codewords = make_data(5, 6, 3)
    penalty = np.ones(6, np.float32)

    def loss(*args):
      z, c, p = args
      codes = nearest_codes(z, c, penalty=p)
      return (codes * 1.0).sum()

    gradient = jax.grad(loss, (0, 1, 2))(points, codewords, penalty)
    chex.assert_trees_all_equal(
      gradient, jax.tree.map(np.zeros_like, (points, codewords, penalty))
    )

  @parameterized.parameters(
    (np.zeros(5, np.float32), r"penalty has shape \(5,\); its last .* be 6"),
    (np.zeros((6, 1), np.float32), r"shape \(6, 1\); its last axis must be 6"),
    (
      np.zeros((1, 1, 6), np.float32),
      r"shape \(1, 1, 6\); it must be \[N\], or",
    ),
    (np.zeros((0, 6), np.float32), r"shape \(0, 6\); .* with K of 1 or more"),
    (np.zeros(6, np.int32), "penalty has dtype int32; it must have a floating"),
    (0.5, "penalty is a float; it must be an array of a floating dtype"),
    (np.full(6, -0.5), "penalty has the value -0.5; it must be 0 or more"),
    (np.full(6, np.nan), "penalty has the value nan; it must be 0 or more"),
  )
  def test_what_is_no_penalty_is_refused(self, penalty, message):
    points, codewords = make_data(5, 6, 3)
    with self.assertRaisesRegex(ValueError, message):
      nearest_codes(points, codewords, penalty=penalty)

  def test_an_index_has_none(self):
    points, codewords = make_data(5, 6, 3)
    with self.assertRaisesRegex(ValueError, "penalty is given beside an index"):
      nearest_codes(
        points, index_codebook(codewords), penalty=np.zeros(6, np.float32)
      )


def make_prices(num_points, num_codewords, tables, seed=1):
  """Penalties and prices; with `tables` None one row, for all points alike."""
  rng = np.random.default_rng(seed)
  rows, columns = ((), ()) if tables is None else ((tables,), (tables,))
  penalty = rng.exponential(size=(*rows, num_codewords)).astype(np.float32)
  price = rng.exponential(size=(num_points, *columns)).astype(np.float32)
  price[::5] = 0
  price[1::5] += 1e5
  return penalty, price


class PriceTest(SearchTest):
  @parameterized.product(
    method=(*EXACT, "auto"), dim=(1, 6, 33), tables=(None, 1, 3)
  )
  def test_it_finds_the_smallest_sum(self, method, dim, tables):
    points, codewords = make_data(40, 200, dim)
    penalty, price = make_prices(40, 200, tables)
    found = self.check(points, codewords, penalty, method, price)
    nearest_alone = np.asarray(nearest_codes(points, codewords))
    np.testing.assert_array_equal(found[::5], nearest_alone[::5])
    cheapest = (price.reshape(40, -1) @ np.atleast_2d(penalty)).argmin(axis=1)
    np.testing.assert_array_equal(found[1::5], cheapest[1::5])

  @parameterized.product(method=EXACT, dim=(1, 6, 33), offset=(0.0, 1000.0))
  def test_sums_that_are_equal_but_for_rounding(self, method, dim, offset):
    # Of the first point, all sums are equal; of the others, nearly.
    points, codewords = make_data(40, 200, dim)
    points[1:] = points[0] + 1e-5 * points[1:]
    squares = sums_of(points[:1], codewords, np.zeros(200))[0]
    missing = squares.max() - squares
    shares = np.random.default_rng(1).dirichlet(np.ones(3), 200).T
    price = (
      np.array([[0.5, 7.0, 300.0]]) * np.linspace(1, 1 + 1e-5, 40)[:, None]
    )
    self.check(
      points + np.float32(offset),
      codewords + np.float32(offset),
      (shares * missing / price[0][:, None]).astype(np.float32),
      method,
      price.astype(np.float32),
    )

  @parameterized.product(method=EXACT, tables=(None, 3))
  def test_the_lowest_index_wins_a_tie(self, method, tables):
    for dim in (1, 6):
      points, codewords = make_kind("integers", 40, 200, dim, seed=2)
      penalty, price = make_prices(40, 200, tables)
      penalty, price = np.floor(2 * penalty), np.floor(price)  # sums are exact
      sums = sums_of(points, codewords, penalty, price)
      is_tied = (sums == sums.min(axis=1, keepdims=True)).sum(axis=1) > 1
      self.assertTrue(is_tied.any())
      found = find(points, codewords, penalty, method, price)
      np.testing.assert_array_equal(found, sums.argmin(axis=1))

  @parameterized.parameters("outliers", "far points", "clusters")
  def test_codewords_and_points_that_trouble_a_search(self, kind):
    points, codewords = make_kind(kind, 40, 200, 6, seed=4)
    penalty, price = make_prices(40, 200, 3)
    penalty[0, ::7] *= 1e6
    for method in EXACT:
      self.check(points, codewords, penalty, method, price)

  @parameterized.product(method=EXACT, dim=(1, 6), tables=(None, 3))
  def test_what_has_an_infinite_penalty_is_not_found(self, method, dim, tables):
    points, codewords = make_data(40, 200, dim)
    penalty, price = make_prices(40, 200, tables)
    penalty[..., ::2] = np.inf
    if tables:
      penalty[1:, ::2] = 0  # one infinite penalty is enough
    found = self.check(points, codewords, penalty, method, price)
    self.assertTrue((found % 2 == 1).all())

  @parameterized.parameters(*EXACT)
  def test_a_sum_may_overflow(self, method):
    points, codewords = make_data(40, 200, 6)
    penalty = np.where(np.arange(200) % 2, 0, 1e30).astype(np.float32)
    price = np.full(40, 1e30, np.float32)
    found = self.check(points, codewords, penalty, method, price)
    self.assertTrue((found % 2 == 1).all())
    # Where prices are not seen, those that are no numbers are the largest.
    strange = np.where(np.arange(40) % 2, np.inf, np.nan).astype(np.float32)
    np.testing.assert_array_equal(
      find(points, codewords, penalty, method, strange), found
    )
    np.testing.assert_array_equal(
      find(points, codewords, penalty, method, -price),
      nearest_codes(points, codewords),
    )

  @parameterized.parameters(*EXACT)
  def test_a_price_is_a_factor_of_the_penalty(self, method):
    points, codewords = make_data(40, 200, 6)
    penalty, _ = make_prices(40, 200, None)
    np.testing.assert_array_equal(
      find(points, codewords, penalty, method, np.full(40, 4, np.float32)),
      find(points, codewords, 4 * penalty, method),
    )

  def test_products_leave_few_points_in_doubt(self):
    points, codewords = make_data(300, 261, 6)
    penalty, price = make_prices(300, 261, 10)
    search = jax.jit(  # here, so that it is traced while the scan is replaced
      lambda *args: nearest_codes(
        *args, method="screened", penalty=penalty, price=price
      )
    )
    with mock.patch.object(scan, "_search_few", nothing_found):
      found = np.asarray(search(points, codewords))
    self.assertLess(np.mean(found == NOTHING), 0.02)

  def test_chunks_change_nothing(self):
    points, codewords = make_data(41, 50, 6)
    penalty, price = make_prices(41, 50, 3)
    expected = find(points, codewords, penalty, "dense", price)
    jax.clear_caches()
    self.addCleanup(jax.clear_caches)
    with mock.patch.object(nearest, "points_at_once", lambda width: 13):
      found = find(points, codewords, penalty, "dense", price)
    np.testing.assert_array_equal(found, expected)

  def test_transformations(self):
    points, codewords = make_data(24, 50, 6)
    penalty, price = make_prices(24, 50, 3)
    expected = find(points, codewords, penalty, price=price)

    def search(z, p, r):
      return nearest_codes(z, codewords, penalty=p, price=r)

    by_point = quickly_compiled(jax.vmap(search, (0, None, 0)))
    np.testing.assert_array_equal(by_point(points, penalty, price), expected)
    both = np.stack([penalty, penalty[:, ::-1]])
    by_table = quickly_compiled(jax.vmap(search, (None, 0, None)))
    first, second = by_table(points, both, price)
    np.testing.assert_array_equal(first, expected)
    np.testing.assert_array_equal(
      second, find(points, codewords, both[1], price=price)
    )

  @parameterized.parameters((2, 3, 4), (0,), ())
  def test_prices_have_the_leading_shape(self, *shape):
    points, codewords = make_data(24, 50, 6)
    penalty, price = make_prices(24, 50, 3)
    count = int(np.prod(shape))
    found = find(
      points[:count].reshape(*shape, 6),
      codewords,
      penalty,
      "dense",
      price[:count].reshape(*shape, 3),
    )
    expected = find(points, codewords, penalty, "dense", price)[:count]
    np.testing.assert_array_equal(found, expected.reshape(shape))

  def test_memory_does_not_grow_with_the_number_of_codewords(self):
    shapes = (
      jax.ShapeDtypeStruct(shape, jnp.float32)
      for shape in ((2**14, 2), (2**14, 2), (10, 2**14), (2**14, 10))
    )
    analysis = program("auto").lower(*shapes).compile().memory_analysis()
    # All sums would take a gibibyte.
    self.assertLess(analysis.temp_size_in_bytes, 2**26)

  @parameterized.parameters(
    ((6,), (4,), r"price has shape \(4,\); it must be \(5,\), one for each p"),
    ((6,), (5, 1), r"price has shape \(5, 1\); it must be \(5,\), one for"),
    ((2, 6), (5,), r"price has shape \(5,\); it must be \(5, 2\), .* and row"),
    ((2, 6), None, r"price is None .* shape \(2, 6\); it must be \(5, 2\)"),
    (None, (5,), "price is given without a penalty; it must be None"),
  )
  def test_a_price_of_another_shape_is_refused(self, penalty, price, message):
    points, codewords = make_data(5, 6, 3)
    penalty, price = (
      None if shape is None else np.ones(shape, np.float32)
      for shape in (penalty, price)
    )
    with self.assertRaisesRegex(ValueError, message):
      nearest_codes(points, codewords, penalty=penalty, price=price)

  @parameterized.parameters(
    (
      np.full(5, -0.5),
      "price has the value -0.5; it must be finite and 0 or m",
    ),
    (np.full(5, np.nan), "price has the value nan; it must be finite and 0 or"),
    (np.full(5, np.inf), "price has the value inf; it must be finite and 0 or"),
    (np.ones(5, np.int32), "price has dtype int32; it must have a floating"),
    (1.0, "price is a float; it must be an array of a floating dtype"),
  )
  def test_what_is_no_price_is_refused(self, price, message):
    points, codewords = make_data(5, 6, 3)
    penalty = np.ones(6, np.float32)
    with self.assertRaisesRegex(ValueError, message):
      nearest_codes(points, codewords, penalty=penalty, price=price)
