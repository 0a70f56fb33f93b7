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
from tests.support.search import make_data
from tests.support.search import make_kind

EXACT = ("dense", "blocked", "screened")
EPSILON = 2.0**-23


@functools.cache
def program(method):
  """Returns a search, compiled once for each shape."""
  return jax.jit(lambda z, c, p: nearest_codes(z, c, method=method, penalty=p))


def find(points, codewords, penalty, method="auto"):
  return np.asarray(program(method)(points, codewords, penalty))


def sums_of(points, codewords, penalty):
  """All sums `[T, N]` in float64."""
  points, codewords = points.astype(np.float64), codewords.astype(np.float64)
  squares = np.square(points[:, None] - codewords[None]).sum(axis=-1)
  return squares + np.asarray(penalty, np.float64)


class PenaltyTest(parameterized.TestCase):
  def check(self, points, codewords, penalty, method):
    """The sum found is the smallest but for rounding."""
    found = find(points, codewords, penalty, method)
    sums = sums_of(points, codewords, penalty)
    own = np.take_along_axis(sums, found[:, None], axis=1)[:, 0]
    smallest = sums.min(axis=1)
    bound = (20 + points.shape[1] / 16) * EPSILON * smallest
    self.assertTrue((own - smallest <= bound).all())
    return found

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
    (np.zeros(5, np.float32), r"penalty has shape \(5,\); it must be \(6,\)"),
    (np.zeros((6, 1), np.float32), r"penalty has shape \(6, 1\); .* 1 axes"),
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
