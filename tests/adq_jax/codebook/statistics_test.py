from unittest import mock

from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np

from adq_jax.codebook import statistics

INTEGERS = (
  "int8 int16 int32 int64 uint8 uint16 uint32 uint64 int4 uint4".split()
)
jitted_indices = jax.jit(statistics.to_indices, static_argnums=1)


class StatisticsTest(parameterized.TestCase):
  def test_counts_and_sums_leave_padding_out(self):
    points = jnp.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [np.nan, 7.0]])
    codes = jnp.array([2, 0, 2, 1])
    mask = jnp.array([1.0, 1.0, 1.0, 0.0])
    chex.assert_trees_all_equal(
      statistics.code_counts(codes, 4, mask=mask), jnp.array([1.0, 0, 2, 0])
    )
    chex.assert_trees_all_equal(
      statistics.code_sums(points, codes, 4, mask=mask),
      jnp.array([[3.0, 4], [0, 0], [6, 8], [0, 0]]),
    )

  @parameterized.parameters((0, 5, 3), (1, 1, 1), (7, 3, 2), (300, 40, 4))
  def test_sums_in_a_fixed_order(self, num_points, codebook_size, dim):
    rng = np.random.default_rng(0)
    points = rng.normal(size=(num_points, dim)).astype(np.float32)
    codes = rng.integers(0, max(codebook_size - 1, 1), num_points)
    expected = np.zeros((codebook_size, dim))
    np.add.at(expected, codes, points.astype(np.float64))
    sums = statistics._sorted_sums(
      jnp.asarray(points), jnp.asarray(codes, jnp.int32), codebook_size
    )
    chex.assert_shape(sums, (codebook_size, dim))
    np.testing.assert_allclose(sums, expected, rtol=1e-5, atol=1e-5)


class IndicesTest(parameterized.TestCase):
  @parameterized.product(
    dtype=INTEGERS, codebook_size=(1, 7, 127, 128, 255, 256, 257, 65_536)
  )
  def test_codes_of_any_dtype(self, dtype, codebook_size):
    info = jnp.iinfo(dtype)
    wanted = [-(2**32), -256, -1, 0, 1, 6, 7, 15, 127, 128, 255, 256, 257]
    wanted += [65_535, 65_536, 2**31 - 1, 2**31, 2**32, 2**32 + 1, 2**63]
    codes = [code for code in wanted if info.min <= code <= info.max]
    expected = [
      code if 0 <= code < codebook_size else codebook_size for code in codes
    ]
    given = np.array(codes, jnp.dtype(dtype))
    # NumPy's of 64 bits lose their upper half on the way to JAX.
    with self.subTest("NumPy"):
      np.testing.assert_array_equal(
        statistics.to_indices(given, codebook_size), expected
      )
    with self.subTest("JAX"), jax.enable_x64(info.bits == 64):
      for function in (statistics.to_indices, jitted_indices):
        found = function(jnp.asarray(given), codebook_size)
        chex.assert_type(found, jnp.int32)
        np.testing.assert_array_equal(found, expected)

  @parameterized.parameters("uint8", "int8", "int64", "uint32")
  def test_counting_is_of_those_in_range(self, dtype):
    codes = np.array([0, 1, 1, 127]).astype(dtype)
    counts = statistics.code_counts(codes, 256)
    np.testing.assert_array_equal(np.flatnonzero(counts), [0, 1, 127])
    self.assertEqual(counts[1], 2)
    np.testing.assert_array_equal(
      statistics.code_counts(np.array([-1, 3, 2, 2**32], np.int64), 3),
      [0, 0, 1],
    )

  def test_counts_go_beyond_what_float32_counts_by_ones(self):
    codes = np.zeros(2**24 + 6, np.uint8)
    self.assertEqual(statistics.code_counts(codes, 2)[0], 2**24 + 6)


class PartsTest(parameterized.TestCase):
  """Many points are taken part by part; parts of 16 numbers stand for them."""

  def test_sums_and_counts(self):
    rng = np.random.default_rng(0)
    points = rng.integers(-9, 9, (37, 3)).astype(np.float32)  # exact sums
    points[5] = np.nan
    codes, mask = rng.integers(0, 6, 37), rng.integers(0, 2, 37)
    expected = (
      statistics.code_sums(jnp.array(points), jnp.array(codes), 6, mask=mask),
      statistics.code_counts(codes, 6, mask=mask),
    )
    with mock.patch.object(statistics, "_PART_NUMBERS", 16):
      found = (
        statistics.code_sums(jnp.array(points), jnp.array(codes), 6, mask=mask),
        statistics.code_counts(codes, 6, mask=mask),
      )
    chex.assert_trees_all_equal(found, expected)

  @parameterized.parameters((512, 128), (65_536, 1))
  def test_memory_beside_the_arguments_is_at_most_a_gibibyte(self, size, dim):
    num_points = 2**22
    points = jax.ShapeDtypeStruct((num_points, dim), jnp.float32)
    codes = jax.ShapeDtypeStruct((num_points,), jnp.int32)
    mask = jax.ShapeDtypeStruct((num_points,), jnp.bool_)

    def both(points, codes, mask):
      return (
        statistics.code_sums(points, codes, size, mask=mask),
        statistics.code_counts(codes, size, mask=mask),
      )

    compiled = jax.jit(both).lower(points, codes, mask).compile()
    self.assertLess(compiled.memory_analysis().temp_size_in_bytes, 2**30)
