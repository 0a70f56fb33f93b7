from absl.testing import parameterized
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from adq_jax.quantizers.unused_codewords import UnusedCodewords

SIZE, DIM, COUNT = 400, 2, 50


class _Stages(nn.Module):
  """Two stages, of which the second has another parameter as well."""

  def setup(self):
    ones = jnp.ones((2, SIZE, DIM))
    self.parameters = {"embedding": 5 * ones, "candidates": 7 * ones[1:]}
    self.unused = UnusedCodewords(self, 2, self.parameters)

  def __call__(self, counts=None, left=None, is_real=None):
    if counts is not None:
      self.unused.check_can_change()
      self.unused.update(self.parameters, counts, left, is_real, None)
    return {
      name: self.unused.displaced(name, x)
      for name, x in self.parameters.items()
    }


@jax.jit
def step(variables, counts, left, is_real):
  return _Stages().apply(
    variables,
    counts,
    left,
    is_real,
    mutable=["codebook"],
    rngs={"codebook": jax.random.key(0)},
  )


class UnusedCodewordsTest(parameterized.TestCase):
  def test_what_no_point_took_becomes_noise_like_what_is_left(self):
    rng = np.random.default_rng(0)
    scale = np.array([[0.1, 3.0], [1.0, 0.5]])[:, None]
    lefts = rng.normal(size=(4, 2, COUNT, DIM)) * scale + 2
    is_real = np.arange(COUNT) % 5 > 0
    counts = np.zeros((4, 2, SIZE))
    counts[0, :, 0] = counts[1, :, 1] = counts[2, :, 2] = 1
    variables = _Stages().init({})
    found = []
    for left, count in zip(lefts, counts, strict=True):
      left = np.where(is_real[:, None], left, 99.0)
      made, variables = step(
        variables, count.astype(np.float32), left.astype(np.float32), is_real
      )
      found.append(jax.device_get(made))
    np.testing.assert_array_equal(found[0]["embedding"], 5)
    np.testing.assert_array_equal(found[1]["embedding"][:, :2], 5)
    # In the second two updates, the third codeword alone is used.
    for before, after in ((1, 2), (1, 3)):
      np.testing.assert_array_equal(
        found[before]["embedding"][:, 2], found[after]["embedding"][:, 2]
      )
    self.assertTrue(
      (found[1]["embedding"][:, 3:] != found[3]["embedding"][:, 3:]).all()
    )
    np.testing.assert_allclose(
      found[3]["candidates"][:, 3:], found[3]["embedding"][1:, 3:], rtol=1e-5
    )
    # Those of the first batches have equal weights.
    real = lefts[:, :, is_real]
    mean, variance = real.mean(axis=(0, 2)), real.var(axis=2).mean(axis=0)
    state = variables["codebook"]
    np.testing.assert_allclose(state["mean"], mean, rtol=1e-4)
    np.testing.assert_allclose(state["variance"], variance, rtol=1e-4)
    noise = found[3]["embedding"][:, 3:]
    np.testing.assert_allclose(noise.std(axis=1), variance**0.5, rtol=0.1)
    np.testing.assert_allclose(
      noise.mean(axis=1), mean, atol=4 * variance.max() ** 0.5 / SIZE**0.5
    )
    deviation = np.abs(noise - mean[:, None]) / variance[:, None] ** 0.5
    self.assertBetween(deviation.max(), 1.6, 3**0.5 + 1e-3)

  def test_a_batch_of_padding_changes_no_moment(self):
    variables = _Stages().init({})
    left = jnp.ones((2, COUNT, DIM))
    _, once = step(variables, jnp.zeros((2, SIZE)), left, jnp.ones(COUNT, bool))
    _, twice = step(once, jnp.zeros((2, SIZE)), left, jnp.zeros(COUNT, bool))
    np.testing.assert_array_equal(twice["codebook"]["mean"], 1)
    # It is no update: not one of those until a replacement, nor the first.
    np.testing.assert_array_equal(twice["codebook"]["num_updates"], 1)
    padding = jnp.zeros((2, SIZE)), left, jnp.zeros(COUNT, bool)
    state = variables
    for _ in range(2):
      made, state = step(state, *padding)
    np.testing.assert_array_equal(made["embedding"], 5)
    _, state = step(state, jnp.zeros((2, SIZE)), left, jnp.ones(COUNT, bool))
    np.testing.assert_array_equal(state["codebook"]["mean"], 1)

  def test_what_training_misses_is_named(self):
    variables = _Stages().init({})
    given = (jnp.zeros((2, SIZE)), jnp.ones((2, 1, DIM)), jnp.ones(1, bool))
    with self.assertRaisesRegex(ValueError, r'mutable=\["codebook"\]'):
      _Stages().apply(variables, *given)
    with self.assertRaisesRegex(ValueError, 'rng stream "codebook" is missing'):
      _Stages().apply(variables, *given, mutable=["codebook"])
    variables["codebook"]["mean"] = jnp.zeros((2, DIM), jnp.bfloat16)
    with self.assertRaisesRegex(ValueError, "mean in the .* bfloat16"):
      _Stages().apply(variables, *given, mutable=["codebook"])
