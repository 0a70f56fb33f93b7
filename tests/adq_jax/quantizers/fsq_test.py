import math

from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np

from adq_jax import FSQ
from adq_jax.streams import symbols


def reference(points, levels):
  """Returns the codes and values of points `[T, d]`, in float64."""
  points, levels = np.asarray(points, np.float64), np.array(levels)
  half = (levels - 1) * (1 - 1e-3) / 2
  offset = np.where(levels % 2 == 1, 0.0, 0.5)
  bounded = np.tanh(points + np.arctanh(offset / half)) * half - offset
  rounded = np.round(bounded)
  return (rounded + levels // 2).astype(int), rounded / (levels // 2), bounded


class FSQTest(parameterized.TestCase):
  def test_a_point_by_hand(self):
    quantizer = FSQ((3, 5, 4))
    result = quantizer.apply({}, jnp.array([0.25, 0.6, -7.0]))
    # Bounded they are 0.244674, 1.073025 and -1.998495.
    chex.assert_trees_all_equal(result.codes, jnp.array([1, 3, 0], jnp.int32))
    chex.assert_trees_all_equal(result.values, jnp.array([0.0, 0.5, -1.0]))
    self.assertEqual(quantizer.to_index(result.codes), 1 + 3 * (3 + 5 * 0))
    self.assertEqual(result.loss, 0)

  @parameterized.parameters(
    ((3,),), ((4, 5),), ((7, 8, 3),), ((25, 26),), ((1000,),), ((999, 4),)
  )
  def test_codes_are_those_in_float64(self, levels):
    rng = np.random.default_rng(0)
    z = rng.normal(size=(500, len(levels))).astype(np.float32) * 1.5
    codes, values, bounded = reference(z, levels)
    # Nothing so near to the middle of two levels that float32 may decide.
    clear = np.abs(np.abs(bounded - np.floor(bounded)) - 0.5).min(axis=1) > 1e-3
    self.assertGreater(clear.mean(), 0.4)
    result = FSQ(levels).apply({}, z)
    np.testing.assert_array_equal(result.codes[clear], codes[clear])
    np.testing.assert_allclose(result.values[clear], values[clear], rtol=1e-6)
    lost = values[clear] - (bounded / (np.array(levels) // 2))[clear]
    error = FSQ(levels).apply({}, z, mask=clear).metrics["quantization_error"]
    np.testing.assert_allclose(error, np.square(lost).mean(), rtol=1e-4)

  @parameterized.parameters(3, 4, 5, 8, 26, 999, 1000)
  def test_every_level_is_reached_and_no_other(self, level):
    z = jnp.concatenate(
      [jnp.linspace(-4, 4, 40 * level), jnp.array([-1e9, 1e9])]
    )
    result = FSQ((level,)).apply({}, z[:, None])
    self.assertEqual(result.codes.min(), 0)
    self.assertEqual(result.codes.max(), level - 1)
    self.assertLen(np.unique(result.codes), level)
    self.assertEqual(result.values.min(), -1)
    # Of an even number of levels, none is as far above zero.
    highest = (level - 1) // 2 / (level // 2)
    self.assertAlmostEqual(float(result.values.max()), highest, places=6)

  @parameterized.parameters(3, 4, 5, 8)
  def test_zero_is_a_level(self, level):
    result = FSQ((level,)).apply({}, jnp.zeros((1, 1)))
    self.assertEqual(result.codes, level // 2)
    self.assertEqual(result.values, 0)

  @parameterized.parameters((5, 0.3, 0.914222), (4, 0.0, 0.665833))
  def test_gradients_by_hand(self, level, z, expected):
    gradient = jax.grad(lambda z: FSQ((level,)).apply({}, z[None]).values[0])
    np.testing.assert_allclose(gradient(jnp.float32(z)), expected, atol=2e-6)

  def test_gradients_go_through_the_tanh_and_not_the_rounding(self):
    levels = (8, 5, 3)
    z = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)

    def smooth(z):
      half = (np.array(levels) - 1) * (1 - 1e-3) / 2
      shift = np.arctanh(np.where(np.array(levels) % 2, 0, 0.5) / half)
      bounded = jnp.tanh(z + shift.astype(np.float32)) * half
      return (bounded / (np.array(levels) // 2)).sum()

    gradient = jax.grad(lambda z: FSQ(levels).apply({}, z).values.sum())(z)
    np.testing.assert_allclose(
      gradient, jax.grad(smooth)(z), rtol=1e-4, atol=1e-6
    )

  @parameterized.parameters(*FSQ.recommended.items())
  def test_recommended_levels_make_about_as_many_codes(self, bits, levels):
    self.assertLess(abs(math.log2(FSQ(levels).codebook_size) - bits), 0.15)
    (symbol,) = symbols(FSQ(levels).streams)
    self.assertEqual(symbol.alphabet, FSQ(levels).codebook_size)


class ErrorsTest(parameterized.TestCase):
  @parameterized.parameters(
    ({"levels": ()}, r"levels is \(\); it must be integers, such as"),
    ({"levels": 5}, "levels is 5; it must be integers, such as"),
    (
      {"levels": (8, 2)},
      r"levels\[1\] is 2; it must be an integer of at least 3",
    ),
    ({"levels": (1001,)}, r"levels\[0\] is 1001; it must be at most 1000"),
    ({"levels": (8.0,)}, r"levels\[0\] is 8.0; it must be an integer"),
    ({"levels": (8,), "features": 0}, "features is 0"),
    ({"levels": (8,), "projection_init": "x"}, "projection_init is 'x'"),
  )
  def test_fields(self, fields, message):
    with self.assertRaisesRegex(ValueError, message):
      FSQ(**fields).check()
