"""What the code of the paper's authors does, each point by hand or in NumPy."""

from unittest import mock

from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np

from adq_jax import AdaptiveQuantizer
from adq_jax import VectorQuantizer
from adq_jax.models.networks import Decoder
from adq_jax.quantizers import attention

KEYS = {"params": jax.random.key(0), "codebook": jax.random.key(1)}
STRUCTURES = ((16, 4), (32, 2), (64, 1))


def make(z, **fields):
  quantizer = AdaptiveQuantizer(STRUCTURES, z.shape[-1], **fields)
  return quantizer, jax.jit(quantizer.init)(KEYS, z)


def always(logits):
  """A selector that says the same of every point."""
  return mock.patch.object(
    attention.AttentionSelector,
    "__call__",
    lambda self, z: jnp.broadcast_to(logits, (*z.shape[:-1], len(logits))),
  )


class ChannelsTest(parameterized.TestCase):
  def test_a_choice_is_made_for_c_neighbours_in_the_memory_of_bchw(self):
    z = jax.random.normal(jax.random.key(2), (2, 3, 5, 6))
    quantizer, variables = make(z, selection_unit="channels")
    result = quantizer.apply(variables, z)
    rows = np.transpose(z, (0, 3, 1, 2)).reshape(-1, 6)
    log_pi = quantizer.apply(
      variables, jnp.asarray(rows), method=lambda self, z: self.selector(z)
    )
    book = np.argmax(log_pi, axis=-1)
    self.assertLen(set(book.tolist()), 3)
    expected = np.zeros_like(rows)
    for i in range(3):
      values = quantizer.apply(
        variables, z, method=lambda self, z, i=i: self.codebooks[i](z)
      ).values
      of_book = np.transpose(values, (0, 3, 1, 2)).reshape(-1, 6)
      expected[book == i] = of_book[book == i]
    expected = np.transpose(expected.reshape(2, 6, 3, 5), (0, 2, 3, 1))
    np.testing.assert_array_equal(result.values, expected)
    np.testing.assert_array_equal(result.codes.book.reshape(-1), book)
    chex.assert_shape(result.codes.index, (2, 3, 5, 3))

  def test_every_codebook_that_an_image_chose_is_sent_at_every_position(self):
    z = jax.random.normal(jax.random.key(2), (2, 2, 2, 4))
    quantizer, variables = make(z, selection_unit="channels")
    book = jnp.array([[[0, 0], [2, 0]], [[1, 1], [1, 1]]])
    is_sent = np.stack([quantizer.sent(k, [book]) for k in (1, 2, 3)], -1)
    expected = np.zeros((2, 2, 2, 3), bool)
    expected[0] = [True, False, True]
    expected[1] = [False, True, False]
    np.testing.assert_array_equal(is_sent, expected)
    with always(jnp.array([0.0, 9.0, 0.0])):
      rate = quantizer.apply(variables, z).metrics["rate"]
    np.testing.assert_allclose(rate, 5)  # log2 32

  def test_a_position_spends_the_bits_of_several_codebooks(self):
    z = jax.random.normal(jax.random.key(2), (2, 8, 8, 8))
    quantizer, variables = make(z, selection_unit="channels")
    metrics = quantizer.apply(variables, z).metrics
    np.testing.assert_allclose(
      metrics["rate"], 4 + 5 + 6 + metrics["selection_entropy"], rtol=1e-6
    )


class WeightsTest(parameterized.TestCase):
  def test_the_favourite_of_eight_wins_no_more_than_28_percent(self):
    z = jnp.zeros((20_000, 4))
    quantizer = AdaptiveQuantizer(
      ((2, 1),) * 8, 4, selection_logits="weights", num_heads=1
    )
    variables = quantizer.init(KEYS, z[:1])
    with always(jnp.array([50.0] + [0.0] * 7) - 50):  # log pi: all on one
      result = quantizer.apply(
        variables, z, draw=True, rngs={"gumbel": jax.random.key(0)}
      )
    share = result.metrics["selection"][0]
    np.testing.assert_allclose(share, np.e / (np.e + 7), atol=0.01)


class OutputTest(parameterized.TestCase):
  def test_a_3x3_projection(self):
    z = jax.random.normal(jax.random.key(2), (1, 4, 5, 3))
    quantizer = VectorQuantizer(8, 2, features=3, output_kernel=3)
    variables = quantizer.init(KEYS, z)
    kernel = jax.random.normal(jax.random.key(3), (3, 3, 2, 3))
    variables["params"]["project_out"]["kernel"] = kernel
    result = quantizer.apply(variables, z)
    codewords = np.asarray(variables["codebook"]["embedding"])
    padded = np.pad(codewords[result.codes[0]], ((1, 1), (1, 1), (0, 0)))
    expected = np.zeros((4, 5, 3))
    for row in range(4):
      for column in range(5):
        window = padded[row : row + 3, column : column + 3]
        expected[row, column] = np.einsum("ijd,ijdc->c", window, kernel)
    np.testing.assert_allclose(result.values[0], expected, rtol=1e-4, atol=1e-5)

  def test_it_starts_as_the_1x1_projection_does(self):
    z = jax.random.normal(jax.random.key(2), (2, 4, 4, 6))
    wide, variables = make(z, output_kernel=3)
    narrow, narrow_variables = make(z)
    chex.assert_trees_all_close(
      wide.apply(variables, z).values, narrow.apply(narrow_variables, z).values
    )

  def test_indices_around_a_position_are_sent(self):
    z = jax.random.normal(jax.random.key(2), (1, 4, 4, 4))
    quantizer, _ = make(z, output_kernel=3)
    book = jnp.zeros((1, 4, 4), jnp.int32).at[0, 0, 0].set(1)
    is_sent = np.stack([quantizer.sent(k, [book]) for k in (1, 2, 3)], -1)
    expected = np.zeros((4, 4, 3), bool)
    expected[..., 0] = True
    expected[:2, :2, 1] = True
    np.testing.assert_array_equal(is_sent[0], expected)

  def test_the_decoder_without_its_first_convolution(self):
    z = jax.random.normal(jax.random.key(2), (1, 4, 4, 8))
    usual, shorter = (
      Decoder(channels=1, network="cnn", features=8, first_convolution=first)
      for first in (True, False)
    )
    variables = usual.init(KEYS, z)
    params = dict(variables["params"])
    # The convolution that changes nothing.
    params["Conv_0"] = {
      "kernel": jnp.zeros((3, 3, 8, 8)).at[1, 1].set(jnp.eye(8)),
      "bias": jnp.zeros(8),
    }
    rest = {k: v for k, v in params.items() if k != "Conv_0"}
    self.assertEqual(
      jax.tree.structure(shorter.init(KEYS, z)["params"]),
      jax.tree.structure(rest),
    )
    chex.assert_trees_all_close(
      shorter.apply({"params": rest}, z),
      usual.apply({"params": params}, z),
      atol=1e-6,
    )
