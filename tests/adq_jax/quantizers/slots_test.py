"""Classes of a user in the slots of quantizers, which know none of them."""

import dataclasses
from typing import ClassVar

from absl.testing import parameterized
import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from adq_jax import AdaptiveQuantizer
from adq_jax import VectorQuantizer
from adq_jax.codebook.placement import AbstractPlacement
from adq_jax.codebook.similarity import AbstractSimilarity
from adq_jax.codebook.updates import AbstractUpdate
from adq_jax.quantizers.choice import AbstractChoice
from adq_jax.quantizers.codewords import AbstractCodewords
from adq_jax.quantizers.estimators import AbstractEstimator
from tests.support.small import make_variables
from tests.support.small import train

Z = jax.random.normal(jax.random.key(5), (50, 4), jnp.float32)


@dataclasses.dataclass(frozen=True)
class JumpUpdate(AbstractUpdate):
  """Puts a codeword where its last point is, and keeps no average of sums."""

  state_names: ClassVar[tuple[str, ...]] = ("embedding", "cluster_size")

  def move(self, state, statistics, shard_axis=None):
    counts = statistics.counts
    mean = statistics.sums / jnp.maximum(counts, 1)[:, None]
    return {
      "embedding": jnp.where(counts[:, None] > 0, mean, state["embedding"]),
      "cluster_size": counts,
    }


@dataclasses.dataclass(frozen=True)
class AtZero(AbstractPlacement):
  """Puts all codewords at 0 after every step."""

  waits_for_data: ClassVar[bool] = False
  is_active: ClassVar[bool] = True

  def before_search(self, make_key, codebook, batch):
    return codebook

  def after_update(self, make_key, codebook, batch):
    return codebook.replace(embedding=jnp.zeros_like(codebook.embedding))


@dataclasses.dataclass(frozen=True)
class Scaled(AbstractEstimator):
  """Gives points their values' gradient, times a factor."""

  factor: float = 3.0

  def estimate(self, quantized, points):
    scaled = self.factor * (points - jax.lax.stop_gradient(points))
    return jax.lax.stop_gradient(quantized) + scaled


@dataclasses.dataclass(frozen=True)
class Turned(AbstractCodewords):
  """Codewords that a learned matrix makes of the vectors."""

  def make(self, embedding_dim):
    return nn.Dense(embedding_dim, use_bias=False)


@dataclasses.dataclass(frozen=True)
class ByFirstNumbers(AbstractSimilarity):
  """Compares the first numbers, and takes the others for zeros."""

  count: int = 2

  def compared(self, vectors):
    return vectors.at[..., self.count :].set(0)

  def check_width(self, embedding_dim):
    if embedding_dim < self.count:
      raise ValueError(f"embedding_dim is {embedding_dim} with {self!r}")


@dataclasses.dataclass(frozen=True)
class SmallestUsed(AbstractChoice):
  """Chooses the smallest codebook, without a look at z."""

  draws: ClassVar[bool] = False
  needs_values: ClassVar[bool] = False

  def check_features(self, features):
    if features % 2:
      raise ValueError(f"parity is odd with {features} features")

  def scores(self, selector, z, of_each, sizes):
    return jnp.broadcast_to(-jnp.array(sizes), (*z.shape[:-1], len(sizes)))

  def choose(self, scores, temperature):
    book = jnp.argmax(scores, axis=-1).astype(jnp.int32)
    return jax.nn.one_hot(book, scores.shape[-1]), book

  def add_loss_of_values(self, loss, chosen):
    return loss + 100.0


class SlotsTest(parameterized.TestCase):
  def test_an_update_keeps_the_state_that_it_names(self):
    quantizer = VectorQuantizer(10, 4, update=JumpUpdate())
    variables = make_variables(quantizer, Z)
    self.assertEqual(set(variables["codebook"]), {"embedding", "cluster_size"})
    _, result, after = train(quantizer, variables, Z)
    code = int(result.codes[0])
    chex.assert_trees_all_close(
      after["codebook"]["embedding"][code],
      Z[result.codes == code].mean(axis=0),
      rtol=1e-5,
    )
    again = quantizer.apply(
      variables,
      result.statistics,
      method="update_codebook",
      mutable=["codebook"],
    )[1]
    chex.assert_trees_all_equal(again["codebook"], after["codebook"])

  def test_a_placement_is_asked_in_every_step(self):
    quantizer = VectorQuantizer(10, 4, placement=AtZero())
    variables = make_variables(quantizer, Z)
    *_, after = train(quantizer, variables, Z)
    self.assertFalse(after["codebook"]["embedding"].any())
    self.assertTrue(variables["codebook"]["embedding"].all())
    with self.assertRaisesRegex(ValueError, "update is Jump.*AtZero.*places"):
      quantizer.clone(update=JumpUpdate()).check()

  def test_an_estimator_gives_values_their_gradient(self):
    for name, quantizer in {
      "vector": VectorQuantizer(10, 4, estimator=Scaled()),
      "pool": AdaptiveQuantizer(((10, 4), (9, 4)), 4, estimator=Scaled()),
    }.items():
      with self.subTest(name):
        variables = make_variables(quantizer, Z)

        def gradient(quantizer, variables=variables):
          return jax.grad(lambda z: quantizer.apply(variables, z).values.sum())(
            Z
          )

        plain = quantizer.clone(estimator=type(quantizer).estimator)
        found, expected = gradient(quantizer), gradient(plain)
        self.assertGreater(jnp.abs(found - expected).max(), 1)
        if name == "vector":
          np.testing.assert_allclose(found, 3 * expected)

  def test_a_choice_chooses(self):
    quantizer = AdaptiveQuantizer(
      ((10, 4), (6, 3), (8, 2)), 4, choice=SmallestUsed()
    )
    variables = make_variables(quantizer, Z)
    self.assertNotIn("selector", variables["params"])
    result = quantizer.apply(variables, Z)
    np.testing.assert_array_equal(result.metrics["selection"], [0, 1, 0])
    self.assertGreater(result.loss, 100)
    codes = quantizer.apply(variables, Z, method="encode")
    chex.assert_trees_all_equal(codes, result.codes)
    with self.assertRaisesRegex(ValueError, "choice.parity is odd with 5"):
      quantizer.clone(features=5).check()

  def test_a_similarity_compares(self):
    quantizer = VectorQuantizer(10, 4, similarity=ByFirstNumbers())
    variables = make_variables(quantizer, Z)
    codewords = np.array(variables["codebook"]["embedding"])
    codewords[:, 2:] = 0
    result = quantizer.apply(variables, Z)
    squares = np.square(Z[:, None, :2] - codewords[None, :, :2]).sum(axis=-1)
    np.testing.assert_array_equal(result.codes, squares.argmin(axis=1))
    np.testing.assert_array_equal(result.values, codewords[result.codes])
    with self.assertRaisesRegex(ValueError, "embedding_dim is 1 with ByFirst"):
      quantizer.clone(embedding_dim=1).check()

  def test_codewords_come_from_vectors_and_parameters(self):
    quantizer = VectorQuantizer(10, 4, codewords=Turned(), update="gradient")
    variables = make_variables(quantizer, Z)
    matrix = variables["params"]["to_codewords"]["kernel"]
    codewords = variables["params"]["embedding"] @ matrix
    result = quantizer.apply(variables, Z)
    chex.assert_trees_all_close(
      result.values, codewords[result.codes], rtol=1e-6
    )
    chex.assert_trees_all_equal(
      quantizer.apply(variables, result.codes, method="decode"), result.values
    )
    (gradient, _), *_ = train(quantizer, variables, Z)
    self.assertGreater(jnp.abs(gradient["to_codewords"]["kernel"]).max(), 0)
