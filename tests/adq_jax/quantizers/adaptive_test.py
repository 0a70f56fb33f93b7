from unittest import mock

from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adq_jax import AdaptiveCodes
from adq_jax import AdaptiveQuantizer
from adq_jax import AttentionChoice
from adq_jax import DistortionChoice
from adq_jax.quantizers import attention

STRUCTURES = ((16, 4), (32, 2), (64, 1))
KEYS = {"params": jax.random.key(0), "codebook": jax.random.key(1)}


def make(shape=(2, 4, 4), features=6, **kwargs):
  z = jax.random.normal(jax.random.key(2), (*shape, features))
  quantizer = AdaptiveQuantizer(STRUCTURES, features, **kwargs)
  return quantizer, jax.jit(quantizer.init)(KEYS, z), z


def drawn(quantizer, variables, z, key=0, **kwargs):
  rngs = {"gumbel": jax.random.key(key)}
  return quantizer.apply(variables, z, draw=True, rngs=rngs, **kwargs)


def log_pi(quantizer, variables, z):
  return quantizer.apply(variables, z, method=lambda self, z: self.selector(z))


class AdaptiveQuantizerTest(parameterized.TestCase):
  @parameterized.parameters(
    {"update": "gradient"},
    {"update": "smoothed_ema"},
    {"selection_unit": "channels", "output_kernel": 3},
    {"selection": "distortion", "output_kernel": 3},
  )
  def test_decoded_codes_are_the_evaluation_output(self, **fields):
    quantizer, variables, z = make((8, 4, 4), **fields)
    result = quantizer.apply(variables, z)
    codes = quantizer.apply(variables, z, method="encode")
    chex.assert_trees_all_equal(codes, result.codes)
    chex.assert_trees_all_equal(
      quantizer.apply(variables, codes, method="decode"), result.values
    )
    # All three codebooks take part.
    self.assertLen(set(np.asarray(codes.book).reshape(-1).tolist()), 3)

  @parameterized.parameters(0, 1, 2)
  def test_codes_where_all_choose_one_codebook(self, book):
    # More points than are searched in one part.
    quantizer, variables, z = make((9, 8, 8))
    choose = jnp.zeros(3).at[book].set(1e3)
    with mock.patch.object(
      attention.AttentionSelector,
      "__call__",
      lambda self, z: jnp.broadcast_to(choose, (*z.shape[:-1], 3)),
    ):
      codes = quantizer.apply(variables, z, method="encode")
      expected = quantizer.apply(variables, z).codes
    self.assertEqual(set(np.asarray(codes.book).reshape(-1).tolist()), {book})
    chex.assert_trees_all_equal(codes, expected)

  def test_points_get_what_their_codebook_makes_of_them(self):
    quantizer, variables, z = make()
    result = quantizer.apply(variables, z)
    for i in range(3):
      alone = quantizer.apply(
        variables, z, method=lambda self, z, i=i: self.codebooks[i](z)
      )
      here = result.codes.book == i
      chex.assert_trees_all_equal(result.codes.index[here], alone.codes[here])
      chex.assert_trees_all_equal(result.values[here], alone.values[here])

  def test_evaluation_chooses_the_most_probable_codebook(self):
    quantizer, variables, z = make()
    chex.assert_trees_all_equal(
      quantizer.apply(variables, z).codes.book,
      log_pi(quantizer, variables, z).argmax(axis=-1).astype(jnp.int32),
    )

  @parameterized.parameters(0.1, 1.0, 1000.0)
  def test_draws_follow_pi_whatever_the_temperature(self, temperature):
    quantizer, variables, z = make((1,))
    count = 20_000
    many = jnp.broadcast_to(z, (count, 6))
    book = drawn(quantizer, variables, many, temperature=temperature).codes.book
    observed = np.bincount(np.asarray(book), minlength=3)
    pi = np.exp(np.asarray(log_pi(quantizer, variables, z)[0], np.float64))
    np.testing.assert_allclose(pi.sum(), 1, rtol=1e-6)
    chi_square = np.sum((observed - count * pi) ** 2 / (count * pi))
    self.assertLess(chi_square, 13.8)  # 2 degrees of freedom, p = 0.001

  def test_temperature_scales_the_gradient_and_not_the_choice(self):
    quantizer, variables, z = make()

    def gradient(temperature):
      def loss(params):
        result = drawn(
          quantizer, {**variables, "params": params}, z, temperature=temperature
        )
        return jnp.sum(result.values**2), result.codes

      gradient, codes = jax.grad(loss, has_aux=True)(variables["params"])
      return gradient, codes

    hot, hot_codes = gradient(1e4)
    hotter, hotter_codes = gradient(2e4)
    chex.assert_trees_all_equal(hot_codes, hotter_codes)
    # Where softmax is flat, its slope goes as 1 / temperature.
    chex.assert_trees_all_close(
      hot["selector"],
      jax.tree.map(lambda g: 2 * g, hotter["selector"]),
      rtol=1e-2,
      atol=1e-9,
    )
    self.assertGreater(
      max(float(jnp.abs(g).max()) for g in jax.tree.leaves(hot["selector"])), 0
    )
    chex.assert_trees_all_equal(hot["codebooks_0"], hotter["codebooks_0"])

  def test_the_choice_has_a_gradient_to_z(self):
    quantizer, variables, z = make()

    def total(z, temperature):
      return drawn(
        quantizer, variables, z, temperature=temperature
      ).values.sum()

    cold, hot = (jax.grad(total)(z, t) for t in (1.0, 1e6))
    self.assertGreater(jnp.abs(cold - hot).max(), 1e-4)

  @parameterized.parameters("ema", "gradient")
  def test_loss_is_the_mean_over_codebooks(self, update):
    quantizer, variables, z = make(update=update)
    losses = [
      quantizer.apply(
        variables, z, method=lambda self, z, i=i: self.codebooks[i](z)
      ).loss
      for i in range(3)
    ]
    chex.assert_trees_all_close(
      quantizer.apply(variables, z).loss, sum(losses) / 3, rtol=1e-6
    )

  @parameterized.parameters("log_weights", "weights")
  def test_the_entropy_of_the_choice_lowers_the_loss(self, selection_logits):
    quantizer, variables, z = make(selection_logits=selection_logits)
    mask = jnp.ones((2, 4, 4)).at[1, 2:].set(0)

    def loss(entropy_weight, params=variables["params"]):
      some = quantizer.clone(entropy_weight=entropy_weight)
      # The noise of a draw has no part in it.
      here = {**variables, "params": params}
      return drawn(some, here, z, mask=mask).loss

    pi = np.exp(np.asarray(log_pi(quantizer, variables, z), np.float64))
    if selection_logits == "weights":
      pi = np.exp(pi) / np.exp(pi).sum(axis=-1, keepdims=True)
    mean = pi[np.asarray(mask) > 0].mean(axis=0)
    entropy = -np.sum(mean * np.log2(mean))
    self.assertGreater(entropy, 0.5)
    np.testing.assert_allclose(
      loss(0.0) - loss(0.25), 0.25 * entropy, rtol=1e-5
    )
    # It teaches the selector, which nothing else of the loss reaches.
    without, some, more = (
      jax.grad(loss, argnums=1)(weight, variables["params"])["selector"]
      for weight in (0.0, 0.25, 0.5)
    )
    chex.assert_trees_all_equal(without, jax.tree.map(jnp.zeros_like, without))
    self.assertGreater(jnp.abs(some["codebook_keys"]).max(), 1e-6)
    chex.assert_trees_all_close(
      jax.tree.map(lambda g: 2 * g, some), more, rtol=1e-5, atol=1e-8
    )

  def test_every_codebook_learns_from_every_point(self):
    quantizer, variables, z = make(decay=0.5)
    _, after = quantizer.apply(
      variables,
      z,
      train=True,
      mutable=["codebook"],
      rngs={"gumbel": jax.random.key(0)},
    )
    for i, (codebook_size, _) in enumerate(STRUCTURES):
      size = after["codebook"][f"codebooks_{i}"]["cluster_size"]
      expected = 0.5 * codebook_size + 0.5 * 32  # 32 points
      chex.assert_trees_all_close(size.sum(), expected, rtol=1e-5)

  def test_metrics(self):
    quantizer, variables, z = make()
    mask = jnp.ones((2, 4, 4)).at[1, 2:].set(0)
    result = quantizer.apply(variables, z, mask=mask)
    book = np.asarray(result.codes.book)[np.asarray(mask) > 0]
    shares = np.bincount(book, minlength=3) / 24
    chex.assert_trees_all_close(
      result.metrics["selection"], shares.astype(np.float32), rtol=1e-6
    )
    entropy = -np.sum(shares[shares > 0] * np.log2(shares[shares > 0]))
    chex.assert_trees_all_close(
      result.metrics["selection_entropy"], np.float32(entropy), rtol=1e-5
    )
    chex.assert_trees_all_close(
      result.metrics["rate"],
      np.float32(entropy + shares @ np.array([4.0, 5.0, 6.0])),
      rtol=1e-5,
    )
    for name in ("quantization_error", "perplexity", "usage"):
      chex.assert_shape(result.metrics[name], (3,))

  @pytest.mark.slow
  def test_eight_devices_place_codewords_as_one_does(self):
    one, variables, z = make((16, 4), codebook_init="data", revive_below=0.5)
    many = one.clone(axis_name="devices")
    rngs = {"gumbel": jax.random.key(4), "codebook": jax.random.key(5)}

    def run(quantizer, variables, z):
      result, after = quantizer.apply(
        variables, z, train=True, mutable=["codebook"], rngs=rngs
      )
      return result.loss, result.codes, result.metrics, after

    loss, codes, metrics, after = jax.jit(lambda v, z: run(one, v, z))(
      variables, z
    )
    losses, shards, all_metrics, states = jax.pmap(
      lambda v, z: run(many, v, z), "devices", in_axes=(None, 0)
    )(variables, z.reshape(8, 2, 4, 6))
    chex.assert_trees_all_close(losses.mean(), loss, rtol=1e-5)
    chex.assert_trees_all_equal(
      jax.tree.map(lambda x: np.asarray(x).reshape(16, 4), shards), codes
    )
    for replica in range(8):
      replicas = jax.tree.map(lambda x, r=replica: x[r], (all_metrics, states))
      chex.assert_trees_all_close(
        replicas, (metrics, after), rtol=1e-4, atol=1e-5
      )
      chex.assert_trees_all_equal(
        replicas[1], jax.tree.map(lambda x: x[0], states)
      )


class ErrorsTest(parameterized.TestCase):
  def test_each_is_named(self):
    quantizer, variables, z = make()
    with self.assertRaisesRegex(ValueError, "last axis must be 6"):
      quantizer.apply(variables, z[..., :4])
    with self.assertRaisesRegex(ValueError, 'stream "gumbel" is missing'):
      quantizer.apply(variables, z, draw=True)
    with self.assertRaisesRegex(ValueError, 'stream "gumbel" is missing'):
      quantizer.apply(variables, z, train=True, mutable=["codebook"])
    with self.assertRaisesRegex(ValueError, r"example_index .* \(2,\)"):
      drawn(quantizer, variables, z, example_index=jnp.arange(3))
    codes = quantizer.apply(variables, z).codes
    with self.assertRaisesRegex(ValueError, "codes.book has dtype float32"):
      quantizer.apply(
        variables, AdaptiveCodes(z[..., 0], codes.index), method="decode"
      )
    with self.assertRaisesRegex(ValueError, "codes.index has shape"):
      quantizer.apply(
        variables, AdaptiveCodes(codes.book, codes.index[0]), method="decode"
      )

  def test_fields(self):
    z = jnp.ones((2, 6))
    with self.assertRaisesRegex(ValueError, "structures is empty"):
      AdaptiveQuantizer((), 6).init(KEYS, z)
    with self.assertRaisesRegex(
      ValueError, "choice.num_heads is 4; it must divide"
    ):
      AdaptiveQuantizer(STRUCTURES, 6, num_heads=4).init(KEYS, z)
    for selected, field in (
      ("attention", "rate_weight"),
      ("distortion", "entropy_weight"),
    ):
      with self.assertRaisesRegex(
        ValueError, f"{field} is 0.1 with selection='{selected}'; it must be 0"
      ):
        AdaptiveQuantizer(STRUCTURES, 6, selection=selected, **{field: 0.1})
    for choice, message in (
      (AttentionChoice(num_heads=0), "choice.num_heads is 0"),
      (AttentionChoice(entropy_weight=-1.0), "choice.entropy_weight is -1.0"),
      (AttentionChoice(logits="pi"), "choice.logits is 'pi'; .* 'log_weights'"),
      (DistortionChoice(rate_weight=-1.0), "choice.rate_weight is -1.0"),
      ("distortion", "choice is 'distortion'; it must be an AbstractChoice"),
    ):
      with self.assertRaisesRegex(ValueError, message):
        AdaptiveQuantizer(STRUCTURES, 6, choice=choice).init(KEYS, z)

  def test_codes_out_of_range_decode_to_nan(self):
    quantizer, variables, _ = make()
    codes = AdaptiveCodes(jnp.array([3, -1, 0, 2]), jnp.array([0, 0, 16, 16]))
    values = quantizer.apply(variables, codes, method="decode")
    chex.assert_trees_all_equal(
      jnp.isnan(values).all(axis=-1), jnp.array([True, True, True, False])
    )
