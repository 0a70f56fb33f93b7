"""How many stages a point takes, where this is learned."""

from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np

from adq_jax import AttentionChoice
from adq_jax import codebook_from
from adq_jax import CodedPrice
from adq_jax import DistortionChoice
from adq_jax import ResidualQuantizer
from tests.support.small import make_variables
from tests.support.small import train

_OWN = (((1.0,), (-1.0,)), ((0.5,), (-0.5,)), ((0.25,), (-0.25,)))


def make(**choice):
  """A quantizer of numbers, whose attention is random."""
  quantizer = ResidualQuantizer(
    3, 2, 1, depth_choice=AttentionChoice(num_heads=1, **choice)
  )
  z = jnp.linspace(-2, 2, 41)[:, None]
  variables = make_variables(quantizer, z)
  state = {
    f"codebooks_{s}": codebook_from(jnp.array(codewords)).to_collection()
    for s, codewords in enumerate(_OWN)
  }
  return quantizer, {**variables, "codebook": state}, z


def log_weights(params, z):
  """log pi of one head, by float64."""
  params = jax.tree.map(np.float64, params)
  query = np.float64(z) @ params["query"]["kernel"][:, 0]
  query = query + params["query"]["bias"][0]
  key = params["codebook_keys"] @ params["key"]["kernel"][:, 0]
  scores = query @ (key + params["key"]["bias"][0]).T
  return scores - np.log(np.exp(scores).sum(axis=-1, keepdims=True))


class LearnedDepthTest(parameterized.TestCase):
  def test_evaluation_takes_the_most_probable_depth(self):
    quantizer, variables, z = make()
    depths = 1 + np.argmax(
      log_weights(variables["params"]["selector"], z), axis=-1
    )
    self.assertGreater(len(set(depths)), 1)
    result = quantizer.apply(variables, z)
    left, codes = np.float64(z[:, 0]), []
    for s, book in enumerate(_OWN):
      own = np.abs(left[:, None] - np.array(book)[:, 0]).argmin(axis=1)
      codes.append(np.where(s < depths, own, -1))
      left = left - np.array(book)[own, 0]
    np.testing.assert_array_equal(result.codes, np.stack(codes, axis=1))
    np.testing.assert_allclose(
      result.metrics["selection"], np.bincount(depths, minlength=4) / len(z)
    )
    chex.assert_trees_all_equal(
      quantizer.apply(variables, z, method="encode"), result.codes
    )

  def test_the_selector_has_the_gradient_of_the_sums_that_it_weighs(self):
    quantizer, variables, z = make()
    z = jnp.array([[0.9]])  # 1, then 0.5, then 0.75
    sums, tau = np.array([1.0, 0.5, 0.75]), 2.0

    def value(params, z):
      own = {**variables, "params": params}
      return quantizer.apply(own, z, temperature=tau).values.sum()

    gradient, of_z = jax.grad(value, (0, 1))(variables["params"], z)
    # By differences of sum_k softmax(log pi / tau)_k sum_k.
    params = variables["params"]["selector"]

    def soft(shift):
      keys = np.float64(params["codebook_keys"]) + shift
      logits = log_weights({**params, "codebook_keys": keys}, z)[0] / tau
      weights = np.exp(logits)
      return (weights / weights.sum()) @ sums

    for k in range(3):
      shift = np.zeros((3, 1))
      shift[k] = 1e-5
      np.testing.assert_allclose(
        gradient["selector"]["codebook_keys"][k, 0],
        (soft(shift) - soft(-shift)) / 2e-5,
        rtol=1e-3,
      )
    self.assertGreater(
      np.abs(gradient["selector"]["codebook_keys"]).max(), 1e-4
    )
    self.assertEqual(of_z.shape, z.shape)

  def test_stages_learn_from_real_points_that_use_them(self):
    quantizer, variables, z = make()
    mask = jnp.arange(len(z)) < 30
    _, result, _ = train(quantizer, variables, z, mask)
    depths = np.asarray(quantizer.to_streams(result.codes)[0])[:30]
    self.assertGreater(len(set(depths)), 1)
    self.assertBetween(depths.min(), 1, 3)
    for s, own in enumerate(result.statistics):
      self.assertEqual(own.counts.sum(), (depths > s).sum())

  def test_the_depth_is_a_stream(self):
    quantizer, variables, z = make()
    names = [stream.name for stream in quantizer.streams]
    self.assertEqual(names, ["depth", "stage_0", "stage_1", "stage_2"])
    codes = quantizer.apply(variables, z, method="encode")
    values = quantizer.to_streams(codes)
    chex.assert_trees_all_equal(quantizer.from_streams(values), codes)

  @parameterized.parameters(
    ({"price": CodedPrice()}, "price is CodedPrice.* where depth_choice is"),
    ({"stage_dropout": 0.5}, "stage_dropout is 0.5; .* depth_choice is"),
    ({"beam_size": 2}, "beam_size is 2; .* depth_choice is"),
    ({"depth_choice": DistortionChoice()}, "depth_choice is Dist.* set price"),
    ({"features": 3}, "depth_choice.num_heads is 2; it must divide the 3"),
  )
  def test_what_does_not_fit_is_refused(self, fields, message):
    fields = {"depth_choice": AttentionChoice()} | fields
    with self.assertRaisesRegex(ValueError, message):
      ResidualQuantizer(2, 4, 4, **fields).check()
