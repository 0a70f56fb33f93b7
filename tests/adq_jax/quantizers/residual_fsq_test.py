from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np

from adq_jax import FSQ
from adq_jax import ResidualFSQ
from adq_jax.streams import symbols

LEVELS = (3, 4, 5, 8)
Z = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32) * 1.5


def reference(points, levels, num_stages):
  """Returns codes `[T, S, d]` and the sums after each stage, in float64."""
  points, levels = np.asarray(points, np.float64), np.array(levels)
  half = (levels - 1) * (1 - 1e-3) / 2
  offset = np.where(levels % 2 == 1, 0.0, 0.5)
  left = np.tanh(points + np.arctanh(offset / half)) * half - offset
  bounded, codes, sums = left, [], []
  for s in range(num_stages):
    if s == 0:
      code = np.round(left)
      added, code = code, code + levels // 2
    else:  # a cell from -1/2 to 1/2, in L parts
      code = np.floor((left + 0.5) * levels)
      added = (code + 0.5) / levels - 0.5
      left = left * levels - (code + 0.5 - levels / 2)
    if s == 0:
      left = left - added
    codes.append(code)
    scale = 1.0 if s == 0 else levels ** (1.0 - s)
    sums.append((sums[-1] if sums else 0) + added * scale)
  unit = levels // 2
  return np.stack(codes, 1), [x / unit for x in sums], bounded / unit


class ResidualFSQTest(parameterized.TestCase):
  def test_a_point_by_hand(self):
    quantizer = ResidualFSQ((5, 4), num_stages=3)
    # 0.3 is bounded to 0.582041 steps, and -0.4 to -0.579422 of its own.
    result = quantizer.apply({}, jnp.array([[0.3, -0.4]]))
    # 1, then the lowest fifth of its cell, 0.6; of that the middle, 0.6.
    # -1, then the uppermost quarter, -0.625; then the third of it, -0.59375.
    codes = jnp.array([[[3, 1], [0, 3], [2, 2]]], jnp.int32)
    chex.assert_trees_all_equal(result.codes, codes)
    np.testing.assert_allclose(result.values, [[0.6 / 2, -0.59375 / 2]])

  def test_codes_are_those_of_stage_after_stage_in_float64(self):
    codes, sums, bounded = reference(Z, LEVELS, 3)
    quantizer = ResidualFSQ(LEVELS, num_stages=3)
    result = quantizer.apply({}, Z)
    cells = (bounded * (np.array(LEVELS) // 2) + 0.5) * np.array(LEVELS) ** 2
    clear = (np.abs(cells - np.round(cells)) > 1e-3).all(axis=1)
    self.assertGreater(clear.mean(), 0.9)
    np.testing.assert_array_equal(result.codes[clear], codes[clear])
    for s, total in enumerate(sums):
      values = quantizer.apply(
        {}, result.codes, num_stages=s + 1, method="decode"
      )
      np.testing.assert_allclose(values[clear], total[clear], atol=1e-6)
      np.testing.assert_allclose(
        result.metrics["quantization_error"][s],
        np.square(total - bounded).mean(),
        rtol=1e-3,
      )

  def test_the_first_stage_is_fsq_and_prefixes_are_codes_of_fewer_stages(self):
    quantizer = ResidualFSQ(LEVELS, num_stages=3)
    codes = quantizer.apply({}, Z, method="encode")
    first = FSQ(LEVELS).apply({}, Z)
    chex.assert_trees_all_equal(codes[:, 0], first.codes)
    values = quantizer.apply({}, codes, num_stages=1, method="decode")
    chex.assert_trees_all_close(values, first.values, rtol=3e-7)
    fewer = quantizer.clone(num_stages=2).apply({}, Z)
    chex.assert_trees_all_equal(codes[:, :2], fewer.codes)
    shorter = codes.at[:, 2:].set(-1)
    values = quantizer.apply({}, shorter, method="decode")
    chex.assert_trees_all_close(values, fewer.values, rtol=3e-7)
    error = quantizer.apply({}, Z).metrics["quantization_error"]
    self.assertTrue((np.diff(error) < 0).all())

  @parameterized.parameters((3, 12), (4, 5), (5, 8), (1000, 2), (8, 8))
  def test_all_cells_are_as_wide_and_every_code_is_a_level(self, level, stages):
    quantizer = ResidualFSQ((level,), num_stages=stages)
    z = jnp.concatenate([jnp.linspace(-4, 4, 4000), jnp.array([-1e9, 1e9])])
    result = quantizer.apply({}, z[:, None])
    self.assertEqual(result.codes.min(), 0)
    self.assertEqual(result.codes.max(), level - 1)
    width = 1 / (level // 2) / level ** (stages - 1)
    half = FSQ((level,)).place(z[:, None])
    # As near as float32 tells.
    error = np.abs(result.values - half).max()
    self.assertLess(error, width / 2 + 2e-7)

  def test_the_gradient_is_that_of_fsq(self):
    def gradient(quantizer):
      weights = jnp.arange(4.0)
      return jax.grad(lambda z: (quantizer.apply({}, z).values * weights).sum())

    found = gradient(ResidualFSQ(LEVELS, num_stages=3))(Z)
    chex.assert_trees_all_equal(found, gradient(FSQ(LEVELS))(Z))

  def test_a_symbol_and_metrics_for_each_stage(self):
    quantizer = ResidualFSQ((3, 4), num_stages=3)
    found = symbols(quantizer.streams)
    self.assertEqual(
      [(x.name, x.alphabet) for x in found],
      [("stage_0", 12), ("stage_1", 12), ("stage_2", 12)],
    )
    result = quantizer.apply({}, Z[:, :2])
    chex.assert_shape(quantizer.to_index(result.codes), (300, 3))
    for name in ("quantization_error", "perplexity", "usage"):
      chex.assert_shape(result.metrics[name], (3,))

  def test_a_level_that_is_none_decodes_to_nan(self):
    codes = jnp.array([[[1, 3], [-2, 0]], [[-1, 4], [2, 0]]])
    quantizer = ResidualFSQ((3, 4), num_stages=2)
    values = quantizer.apply({}, codes, method="decode")
    np.testing.assert_array_equal(
      jnp.isnan(values), [[True, False], [False, True]]
    )

  def test_training_drops_stages_of_examples(self):
    quantizer = ResidualFSQ((5, 4), num_stages=3, stage_dropout=1.0)
    z = jax.random.normal(jax.random.key(0), (60, 3, 2))
    rngs = {"dropout": jax.random.key(1)}
    result = quantizer.apply({}, z, train=True, rngs=rngs)
    evaluated = quantizer.apply({}, z)
    depths = (result.codes >= 0).sum(axis=(2, 3)) // 2
    np.testing.assert_array_equal(depths, depths[:, :1] + jnp.zeros((1, 3)))
    self.assertEqual(set(np.ravel(depths)), {1, 2, 3})
    for k in (1, 2, 3):
      own = depths[:, 0] == k
      prefix = quantizer.apply(
        {}, evaluated.codes, num_stages=k, method="decode"
      )
      chex.assert_trees_all_equal(result.values[own], prefix[own])
    # A stage counts the points that use it.
    for s in range(3):
      own = quantizer.to_index(result.codes[..., s, :])[depths > s]
      used = len(np.unique(own)) / 20
      np.testing.assert_allclose(result.metrics["usage"][s], used, rtol=1e-6)
    decoded = quantizer.apply({}, result.codes, method="decode")
    chex.assert_trees_all_equal(decoded, result.values)

  @parameterized.parameters(
    ({"stage_dropout": 1.5}, r"stage_dropout is 1.5; it must be in \[0, 1\]"),
    ({"num_stages": 0}, "num_stages is 0; it must be an integer of at least 1"),
    ({"num_stages": 11}, "num_stages is 11; .* does not tell 5.11 levels"),
    ({"levels": (8, 2)}, r"levels\[1\] is 2"),
  )
  def test_fields(self, fields, message):
    with self.assertRaisesRegex(ValueError, message):
      ResidualFSQ(**{"levels": (5, 4), "num_stages": 2, **fields}).check()

  def test_codes(self):
    quantizer = ResidualFSQ((5, 4), num_stages=2)
    with self.assertRaisesRegex(ValueError, r"must be \(2, 2\), stages and n"):
      quantizer.apply({}, jnp.zeros((3, 2), jnp.int32), method="decode")
    codes = jnp.zeros((2, 2), jnp.int32)
    with self.assertRaisesRegex(ValueError, "num_stages is 3; .* at most 2"):
      quantizer.apply({}, codes, num_stages=3, method="decode")
