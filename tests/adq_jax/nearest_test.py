from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np

from adq_jax import nearest_codes

METHODS = ("auto", "blocked", "dense")
EPSILON = np.finfo(np.float32).eps


def make_data(num_points, num_codes, dim, seed=0):
  rng = np.random.default_rng(seed)
  z = rng.normal(size=(num_points, dim)).astype(np.float32)
  codebook = rng.normal(size=(num_codes, dim)).astype(np.float32)
  return z, codebook


def excess(z, codebook, indices):
  """How far the choice is beyond the nearest, in the contract's unit."""
  z, codebook = z.astype(np.float64), codebook.astype(np.float64)
  distances = np.linalg.norm(z[:, None] - codebook[None], axis=-1)
  chosen = np.take_along_axis(distances, indices[:, None], axis=1)[:, 0]
  norms = np.linalg.norm(z, axis=-1) + np.linalg.norm(
    codebook[indices], axis=-1
  )
  return (chosen - distances.min(axis=1)) / (EPSILON * norms)


class NearestCodesTest(parameterized.TestCase):
  @parameterized.product(
    method=METHODS,
    structure=((512, 128), (513, 20), (1000, 5), (4096, 3), (8191, 2), (9, 1)),
    offset=(0.0, 1000.0),
  )
  def test_chosen_codeword_is_nearest_in_float64(
    self, method, structure, offset
  ):
    z, codebook = make_data(200, *structure)
    z, codebook = z + np.float32(offset), codebook + np.float32(offset)
    indices = np.asarray(nearest_codes(z, codebook, method=method))
    self.assertLessEqual(excess(z, codebook, indices).max(), 8)

  @parameterized.parameters(
    *((method, dim) for method in METHODS for dim in (1, 3, 16, 128)),
    ("sorted", 1),
  )
  def test_is_exact_where_codewords_crowd_far_from_the_origin(
    self, method, dim
  ):
    rng = np.random.default_rng(1)
    centre = rng.normal(size=(1, dim)) * 10
    z, codebook = make_data(100, 700, dim)
    z = (centre + 1e-4 * z).astype(np.float32)
    codebook = (centre + 1e-4 * codebook).astype(np.float32)
    indices = np.asarray(nearest_codes(z, codebook, method=method))
    self.assertLessEqual(excess(z, codebook, indices).max(), 8)

  @parameterized.product(method=METHODS, dim=(1, 2, 8), num_codes=(5, 64, 333))
  def test_lowest_index_wins_ties(self, method, dim, num_codes):
    rng = np.random.default_rng(0)
    # Small integers: distances are exact and ties are many.
    z = rng.integers(-2, 3, (300, dim)).astype(np.float32)
    codebook = rng.integers(-2, 3, (num_codes, dim)).astype(np.float32)
    squares = np.square(z[:, None] - codebook[None]).sum(axis=-1)
    chex.assert_trees_all_equal(
      np.asarray(nearest_codes(z, codebook, method=method)),
      squares.argmin(axis=1).astype(np.int32),
    )

  @parameterized.parameters(*METHODS)
  def test_equal_codewords_give_index_zero(self, method):
    z, _ = make_data(50, 1, 4)
    codebook = np.ones((1000, 4), np.float32)
    indices = nearest_codes(z, codebook, method=method)
    chex.assert_trees_all_equal(indices, jnp.zeros(50, jnp.int32))

  @parameterized.parameters(
    *((method, dim) for method in METHODS for dim in (1, 6)), ("sorted", 1)
  )
  def test_no_input_gives_an_index_out_of_range(self, method, dim):
    z, codebook = make_data(20, 70, dim)
    z[1] = np.nan
    z[2], z[3], z[4] = np.inf, -np.inf, np.finfo(np.float32).max
    z[5, 0] = np.inf
    for bad in (np.nan, np.inf, -np.inf):
      codebook[7] = bad
      indices = np.asarray(nearest_codes(z, codebook, method=method))
      self.assertTrue(((indices >= 0) & (indices < 70)).all())
      self.assertEqual(indices[1], 0)
      self.assertNotIn(7, indices[6:])

  @parameterized.product(
    num_points=(1, 2, 100, 256),
    num_codes=(1, 2, 5, 1000, 5000),
    kind=("normal", "integers", "equal codewords", "equal points", "outliers"),
  )
  def test_numbers(self, num_points, num_codes, kind):
    rng = np.random.default_rng(num_points + num_codes)
    z, codebook = make_data(num_points, num_codes, 1)
    if kind == "integers":  # ties and equal codewords
      z = rng.integers(-9, 9, z.shape).astype(np.float32) / 2
      codebook = rng.integers(-9, 9, codebook.shape).astype(np.float32)
    elif kind == "equal codewords":
      codebook[:] = 0.5
    elif kind == "equal points":
      z[:] = 0.5
    elif kind == "outliers":
      codebook[::3] *= 1e6
      codebook[1::7] = -np.inf
      codebook[2::7] = np.inf
      z[0] = 1e9
    for method in ("sorted", "auto"):
      indices = np.asarray(nearest_codes(z, codebook, method=method))
      if kind == "outliers":  # from afar, float32 cannot tell codewords apart
        self.assertLessEqual(excess(z, codebook, indices).max(), 8)
      else:
        expected = nearest_codes(z, codebook, method="dense")
        chex.assert_trees_all_equal(indices, np.asarray(expected))

  def test_numbers_on_a_cpu_are_searched_by_sorting(self):
    z, codebook = make_data(64, 4096, 1)
    compiled = jax.jit(nearest_codes).lower(z, codebook).compile()
    self.assertIn("scatter", compiled.as_text())
    compiled = jax.jit(nearest_codes).lower(z, codebook[:4095]).compile()
    self.assertNotIn("scatter", compiled.as_text())

  @parameterized.product(method=METHODS, shape=((), (3,), (2, 3, 4), (0,)))
  def test_codes_have_the_leading_shape(self, method, shape):
    z, codebook = make_data(24, 10, 4)
    z = z[: int(np.prod(shape))].reshape(*shape, 4)
    indices = nearest_codes(z, codebook, method=method)
    chex.assert_shape(indices, shape)
    chex.assert_type(indices, jnp.int32)

  @parameterized.product(method=METHODS, num_codes=(1, 2, 63, 65, 129))
  def test_any_number_of_codewords(self, method, num_codes):
    z, codebook = make_data(256, num_codes, 3)
    chex.assert_trees_all_equal(
      nearest_codes(z, codebook, method=method),
      nearest_codes(z, codebook, method="dense"),
    )

  @parameterized.parameters(*((method, 5) for method in METHODS), ("sorted", 1))
  def test_transformations(self, method, dim):
    z, codebook = make_data(16, 100, dim)

    def search(z, codebook):
      return nearest_codes(z, codebook, method=method)

    expected = search(z, codebook)
    chex.assert_trees_all_equal(jax.jit(search)(z, codebook), expected)
    by_point = jax.vmap(search, (0, None))(z, codebook)
    chex.assert_trees_all_equal(by_point, expected)
    shards = jax.pmap(search, in_axes=(0, None))(z.reshape(8, 2, dim), codebook)
    chex.assert_trees_all_equal(np.asarray(shards).reshape(-1), expected)
    stack = np.stack([codebook, codebook[::-1]])
    both = jax.vmap(search, (None, 0))(z, stack)
    chex.assert_trees_all_equal(both, jnp.stack([expected, 99 - expected]))

  @parameterized.parameters(*METHODS)
  def test_no_gradient_flows(self, method):
    z, codebook = make_data(16, 10, 5)

    def loss(z, codebook):
      return jnp.sum(
        jnp.take(codebook, nearest_codes(z, codebook, method=method), 0)
      )

    z_gradient, gradient = jax.grad(loss, (0, 1))(z, codebook)
    self.assertEqual(jnp.abs(z_gradient).max(), 0)
    self.assertEqual(gradient.sum(), 16 * 5)

  def test_half_precision_points_are_searched_in_float32(self):
    z, codebook = make_data(64, 300, 8)
    z = jnp.asarray(z, jnp.bfloat16)
    chex.assert_trees_all_equal(
      nearest_codes(z, codebook), nearest_codes(z.astype("float32"), codebook)
    )

  @parameterized.parameters(1, 4, 64)
  def test_memory_stays_far_below_all_distances(self, dim):
    z, codebook = make_data(1024, 8192, dim)
    compiled = jax.jit(nearest_codes).lower(z, codebook).compile()
    temporary = compiled.memory_analysis().temp_size_in_bytes
    self.assertLess(temporary, 1024 * 8192 * 4 // 4)

  def test_bad_arguments_are_named(self):
    z, codebook = make_data(4, 10, 5)
    with self.assertRaisesRegex(ValueError, r"z has shape \(4, 3\).* 5"):
      nearest_codes(z[:, :3], codebook)
    with self.assertRaisesRegex(ValueError, "z has dtype int32"):
      nearest_codes(z.astype(np.int32), codebook)
    with self.assertRaisesRegex(ValueError, r"z has shape \(\)"):
      nearest_codes(np.float32(1), codebook)
    with self.assertRaisesRegex(ValueError, "codebook .*2 axes"):
      nearest_codes(z, codebook[0])
    with self.assertRaisesRegex(ValueError, "at least one codeword"):
      nearest_codes(z, codebook[:0])
    with self.assertRaisesRegex(ValueError, "method is 'fast'.*'blocked'"):
      nearest_codes(z, codebook, method="fast")
    with self.assertRaisesRegex(ValueError, "'sorted'.* width 1; .* width 5"):
      nearest_codes(z, codebook, method="sorted")
    with self.assertRaisesRegex(ValueError, "z is a list"):
      nearest_codes([[1.0]], codebook)
