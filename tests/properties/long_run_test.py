"""Quantizers alone, over many thousand updates, on data that drift away."""

import functools

from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np

from adq_jax import AdaptiveQuantizer
from adq_jax import code_counts
from adq_jax import VectorQuantizer

_POINTS, _SIZE, _WIDTH = 64, 16, 2
_DECAY, _REVIVE_BELOW = 0.99, 0.3
# A circle of ten standard deviations of the points, four times.
_STEPS, _PERIOD, _RADIUS = 20_000, 5_000, 10.0


def drifting(step, width=_WIDTH):
  angle = 2 * jnp.pi * step / _PERIOD
  centre = _RADIUS * jnp.array([jnp.cos(angle), jnp.sin(angle)])
  key = jax.random.fold_in(jax.random.key(1), step)
  return jnp.tile(centre, width // 2) + jax.random.normal(key, (_POINTS, width))


def start(quantizer, width=_WIDTH):
  keys = {"params": jax.random.key(0), "codebook": jax.random.key(0)}
  keys["gumbel"] = keys["params"]
  return quantizer.init(keys, jnp.zeros((1, width)))


def run(quantizer, num_steps, follow, width=_WIDTH):
  """Returns the variables at the end, and `follow` of every step."""
  variables = start(quantizer, width)

  def update(codebook, step):
    key = jax.random.fold_in(jax.random.key(2), step)
    result, updated = quantizer.apply(
      {**variables, "codebook": codebook},
      drifting(step, width),
      train=True,
      mutable=["codebook"],
      rngs={"codebook": key, "gumbel": key},
    )
    return updated["codebook"], follow(codebook, updated["codebook"], result)

  @jax.jit
  def updates(codebook):
    return jax.lax.scan(update, codebook, jnp.arange(num_steps))

  codebook, followed = updates(variables["codebook"])
  return {**variables, "codebook": codebook}, jax.device_get(followed)


def revived(size):
  """What revival makes of counts, and where."""
  is_dead = size < _REVIVE_BELOW * size.mean()
  return jnp.where(is_dead, size.mean(), size), is_dead


@functools.cache
def long_run(revive_below):
  quantizer = VectorQuantizer(
    _SIZE,
    _WIDTH,
    decay=_DECAY,
    codebook_init="data",
    revive_below=revive_below,
  )

  def follow(before, after, result):
    counts = code_counts(result.codes, _SIZE)
    size = _DECAY * before["cluster_size"] + (1 - _DECAY) * counts
    expected, is_dead = revived(size) if revive_below else (size, size < 0)
    return {
      "is_finite": jnp.isfinite(after["embedding"]).all()
      & jnp.isfinite(after["embedding_sum"]).all(),
      "total": after["cluster_size"].sum(),
      "error": jnp.abs(after["cluster_size"] / expected - 1).max(),
      "num_revived": is_dead.sum(),
      "usage": result.metrics["usage"],
      "quantization_error": result.metrics["quantization_error"],
    }

  return run(quantizer, _STEPS, follow)[1]


class LongRunTest(parameterized.TestCase):
  @parameterized.parameters(0.0, _REVIVE_BELOW)
  def test_everything_stays_finite(self, revive_below):
    followed = long_run(revive_below)
    self.assertTrue(followed["is_finite"].all())
    self.assertLess(followed["quantization_error"].max(), 20)

  def test_counts_are_those_of_the_points_seen(self):
    # Their sum is a moving average of T, from N at the start.
    followed = long_run(0.0)
    steps = np.arange(1, _STEPS + 1)
    expected = _POINTS + (_SIZE - _POINTS) * _DECAY**steps
    np.testing.assert_allclose(followed["total"], expected, rtol=1e-5)

  def test_revival_adds_what_it_gives_to_codewords_and_nothing_else(self):
    followed = long_run(_REVIVE_BELOW)
    self.assertGreater(followed["num_revived"].sum(), 100)
    # Each count is the moving average, or where revived the mean.
    self.assertLess(followed["error"].max(), 1e-5)
    # That stays bounded: a codeword that nobody chooses takes `life` steps to
    # fall from the mean to the threshold, and is then given the rest of it.
    total = followed["total"][1_000:]
    life = np.log(_REVIVE_BELOW) / np.log(_DECAY)
    most = _POINTS / (1 - (1 - _REVIVE_BELOW) / (life * (1 - _DECAY)))
    self.assertGreaterEqual(total.min(), _POINTS * (1 - 1e-5))
    self.assertLess(total.max(), most)

  def test_revival_keeps_the_codewords_in_use(self):
    with_it, without = long_run(_REVIVE_BELOW), long_run(0.0)
    self.assertGreater(with_it["usage"][-5_000:].mean(), 0.6)
    self.assertLess(without["usage"][-5_000:].mean(), 0.2)
    self.assertLess(
      with_it["quantization_error"][-5_000:].mean(),
      0.5 * without["quantization_error"][-5_000:].mean(),
    )

  def test_a_pool_that_chooses_by_attention(self):
    structures, width, num_steps = ((16, 2), (8, 4)), 4, 2_000
    quantizer = AdaptiveQuantizer(
      structures,
      width,
      decay=_DECAY,
      codebook_init="data",
      revive_below=_REVIVE_BELOW,
    )

    def follow(before, after, result):
      del before
      totals = [
        after[f"codebooks_{i}"]["cluster_size"].sum()
        for i in range(len(structures))
      ]
      return jnp.stack(totals), result.loss

    variables, (totals, loss) = run(quantizer, num_steps, follow, width)
    chex.assert_tree_all_finite((variables, loss))
    # Every codebook counts every point, whichever the point chose.
    self.assertGreater(totals[1_000:].min(), _POINTS * (1 - 1e-4))
    self.assertLess(totals[1_000:].max(), 2.4 * _POINTS)
