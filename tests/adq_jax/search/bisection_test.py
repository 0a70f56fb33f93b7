from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np

from adq_jax import nearest_codes
from adq_jax.search import bisection
from tests.support.exactness import excess
from tests.support.search import find
from tests.support.search import make_data


class BisectionTest(parameterized.TestCase):
  def test_neighbours_are_on_both_sides_of_a_point(self):
    points = jnp.array([[0.5], [-9.0], [9.0], [2.0]])
    codewords = jnp.array([[2.0], [1.0], [-1.0], [2.0]])
    found = bisection.neighbours(points, codewords)
    np.testing.assert_array_equal(found.below, [-1, -np.inf, 2, 1])
    np.testing.assert_array_equal(found.below_index, [2, 4, 0, 1])
    np.testing.assert_array_equal(found.above, [1, -1, np.inf, 2])
    np.testing.assert_array_equal(found.above_index, [1, 2, 4, 0])

  def test_sorted_codewords_find_what_sorted_points_find(self):
    z, codebook = make_data(300, 200, 1)
    z[::7] = codebook[3]
    codebook[::5] = codebook[4]
    z, codebook = jnp.asarray(z), jnp.asarray(codebook)
    chex.assert_trees_all_equal(
      bisection.search(z, bisection.build(codebook)),
      bisection.search_unsorted(z, codebook),
    )

  @parameterized.product(num_points=(1, 2, 256), num_codewords=(1, 2, 5000))
  def test_codewords_of_width_1(self, num_points, num_codewords):
    rng = np.random.default_rng(num_points + num_codewords)
    shape = (num_points, num_codewords, 1)
    equal_codewords, equal_points = make_data(*shape), make_data(*shape)
    equal_codewords[1][:] = 0.5
    equal_points[0][:] = 0.5
    halves = rng.integers(-9, 9, (num_points, 1)).astype(np.float32) / 2
    wholes = rng.integers(-9, 9, (num_codewords, 1)).astype(np.float32)
    for z, codebook in (
      make_data(*shape),
      (halves, wholes),  # ties and equal codewords
      equal_codewords,
      equal_points,
    ):
      expected = find(z, codebook, "dense")
      for method in ("sorted", "auto"):
        chex.assert_trees_all_equal(find(z, codebook, method), expected)

    # At a distance float32 cannot tell codewords apart.
    z, codebook = make_data(*shape)
    codebook[::3] *= 1e6
    codebook[1::7] = -np.inf
    codebook[2::7] = np.inf
    z[0] = 1e9
    for method in ("sorted", "auto"):
      indices = find(z, codebook, method)
      self.assertLessEqual(excess(z, codebook, indices).max(), 8)

  def test_codewords_of_width_1_on_a_cpu_are_searched_by_sorting(self):
    z, codebook = make_data(64, 4096, 1)
    compiled = jax.jit(nearest_codes).lower(z, codebook).compile()
    self.assertIn("scatter", compiled.as_text())
    compiled = jax.jit(nearest_codes).lower(z, codebook[:4095]).compile()
    self.assertNotIn("scatter", compiled.as_text())
