import itertools

from absl.testing import parameterized
import chex
import jax.numpy as jnp
import numpy as np

from adq_jax import FSQ


class GridTest(parameterized.TestCase):
  def test_an_index_for_each_code(self):
    quantizer = FSQ((4, 3, 5))
    # The first number counts by ones.
    codes = np.array(
      [c[::-1] for c in itertools.product(*map(range, (5, 3, 4)))]
    )
    index = quantizer.to_index(jnp.asarray(codes))
    chex.assert_trees_all_equal(index, jnp.arange(60, dtype=jnp.int32))
    chex.assert_trees_all_equal(
      quantizer.from_index(index), jnp.asarray(codes, jnp.int32)
    )
    values = quantizer.apply({}, jnp.asarray(codes), method="decode")
    self.assertLen(np.unique(values, axis=0), 60)

  def test_large_indices_are_exact(self):
    quantizer = FSQ(FSQ.recommended[16])
    index = jnp.arange(quantizer.codebook_size, dtype=jnp.int32)
    found = quantizer.to_index(quantizer.from_index(index))
    chex.assert_trees_all_equal(found, index)

  def test_metrics_count_codes(self):
    quantizer = FSQ((3, 4))
    codes = jnp.array([0, 0, 7, 7, 7, 11, 3, 3])
    z = jnp.arctanh(
      quantizer.apply({}, quantizer.from_index(codes), method="decode") * 0.9
    )
    result = quantizer.apply({}, z, mask=jnp.array([1, 1, 1, 1, 0, 0, 0, 0]))
    self.assertAlmostEqual(float(result.metrics["perplexity"]), 2.0, places=5)
    self.assertAlmostEqual(float(result.metrics["usage"]), 2 / 12, places=6)

  def test_too_many_codes_are_not_counted(self):
    found = FSQ((256, 257)).apply({}, jnp.zeros((1, 2))).metrics
    self.assertSameElements(found, ("quantization_error", "nonfinite_points"))

  def test_a_level_that_is_none_decodes_to_nan(self):
    codes = jnp.array([[0, 0], [-1, 2], [2, 4], [3, 0]])
    values = FSQ((3, 4)).apply({}, codes, method="decode")
    expected = jnp.array([[-1, -1], [jnp.nan, 0], [1, jnp.nan], [jnp.nan, -1]])
    chex.assert_trees_all_equal(values, expected)


class ErrorsTest(parameterized.TestCase):
  def test_inputs(self):
    quantizer = FSQ((8, 5))
    with self.assertRaisesRegex(
      ValueError, "last axis must be 2, the quantizer's number of levels"
    ):
      quantizer.apply({}, jnp.zeros((4, 3)))
    with self.assertRaisesRegex(
      ValueError, "codes has shape .*must be 2, one level for each"
    ):
      quantizer.apply({}, jnp.zeros((4, 3), jnp.int32), method="decode")
    with self.assertRaisesRegex(ValueError, "codes.* integer dtype"):
      quantizer.to_index(jnp.zeros((4, 2)))

  def test_an_index_of_too_many_codes(self):
    with self.assertRaisesRegex(
      ValueError, "there are 4294967296 codes; an index of 32 bits"
    ):
      FSQ((256,) * 4).to_index(jnp.zeros(4, jnp.int32))
