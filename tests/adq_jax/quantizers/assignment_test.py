import dataclasses

from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np

from adq_jax import AdaptiveQuantizer
from adq_jax import CodedPrice
from adq_jax import Directional
from adq_jax import EmaUpdate
from adq_jax import GradientUpdate
from adq_jax import Nearest
from adq_jax import ResidualQuantizer
from adq_jax import RotationTrick
from adq_jax import SampledCodes
from adq_jax import VectorQuantizer
from adq_jax.quantizers import assignment
from adq_jax.quantizers import examples
from adq_jax.quantizers.assignment import AbstractAssignment
from tests.support.small import bits
from tests.support.small import make_variables
from tests.support.small import RNGS
from tests.support.small import train


@dataclasses.dataclass(frozen=True)
class These(AbstractAssignment):
  """Takes the same codes for each point."""

  codes: tuple[int, ...]

  def samples(self, keys, points, codewords):
    del keys, codewords
    codes = jnp.array(self.codes, jnp.int32)[:, None]
    return jnp.broadcast_to(codes, (len(codes), len(points)))


def shares(codewords, points, temperature):
  """Of each codeword, float64 `[T, N]`."""
  codewords, points = np.float64(codewords), np.float64(points)
  squares = np.square(points[:, None] - codewords).sum(-1) / temperature
  weights = np.exp(squares.min(1, keepdims=True) - squares)
  return weights / weights.sum(1, keepdims=True)


def keys_of(count, seed=0):
  return examples.keys_of(jax.random.key(seed), jnp.arange(count))


class SampleTest(parameterized.TestCase):
  def test_codes_are_sampled_by_distance(self):
    # Of the sheet: .880797 and .119203.
    codewords = jnp.array([[0.0, 0.0], [2.0, 0.0]])
    points = jnp.broadcast_to(jnp.array([0.5, 0.0]), (100, 2))
    expected = shares(codewords, points[:1], 1.0)[0]
    np.testing.assert_allclose(expected, [0.880797, 0.119203], atol=1e-6)
    found = assignment.sample_codes(keys_of(100), points, codewords, 200, 1.0)
    chex.assert_shape(found, (200, 100))
    # The standard error is 0.0023.
    self.assertAlmostEqual(float((found == 0).mean()), expected[0], delta=0.01)

  def test_blocks_share_samples_by_all_weights(self):
    # Three blocks, of which the last is not full.
    rng = np.random.default_rng(0)
    codewords = jnp.array(rng.normal(size=(600, 2)), jnp.float32)
    points = jnp.broadcast_to(jnp.array([0.3, -0.2]) + 100, (100, 2))
    expected = shares(codewords + 100, points[:1], 0.5)[0]
    found = assignment.sample_codes(
      keys_of(100), points - 100, codewords, 500, 0.5
    )
    counts = np.bincount(np.asarray(found).reshape(-1), minlength=600)
    self.assertLen(counts, 600)
    total = counts.sum()
    for part in (slice(256), slice(256, 512), slice(512, None)):
      self.assertAlmostEqual(
        counts[part].sum() / total, expected[part].sum(), delta=0.01
      )
    # Pearson's: its mean is about 599, its standard deviation about 35.
    errors = np.square(counts - total * expected) / (total * expected)
    self.assertLess(errors[expected * total > 5].sum(), 800)

  def test_far_codewords_and_low_temperatures_give_the_nearest(self):
    codewords = jnp.array([[0.0], [1.0], [1e4]])
    points = jnp.array([[0.4], [0.6], [5e3], [2e4]])
    found = assignment.sample_codes(keys_of(4), points, codewords, 3, 1e-3)
    chex.assert_trees_all_equal(found, jnp.array([[0, 1, 1, 2]] * 3))

  def test_samples_belong_to_their_keys(self):
    codewords = jax.random.normal(jax.random.key(1), (300, 2))
    points = jax.random.normal(jax.random.key(2), (6, 2))
    keys = keys_of(6)
    found = assignment.sample_codes(keys, points, codewords, 4, 1.0)
    order = jnp.array([4, 1])
    some = assignment.sample_codes(
      keys[order], points[order], codewords, 4, 1.0
    )
    chex.assert_trees_all_equal(some, found[:, order])
    other = assignment.sample_codes(keys_of(6, 1), points, codewords, 4, 1.0)
    self.assertTrue((other != found).any())

  def test_the_nearest_has_one_sample(self):
    codewords, points = jnp.array([[0.0], [1.0]]), jnp.array([[0.9], [-3.0]])
    found = Nearest().samples(keys_of(2), points, codewords)
    chex.assert_trees_all_equal(found, jnp.array([[1, 0]]))
    self.assertFalse(Nearest().is_sampled)


class OfSamplesTest(parameterized.TestCase):
  def test_the_code_is_the_most_frequent_one(self):
    samples = jnp.array([[0, 2, 1], [0, 1, 1], [1, 1, 0], [0, 2, 0]])
    found = assignment.most_frequent(samples)
    chex.assert_trees_all_equal(found, jnp.array([0, 1, 0]))

  def test_the_value_is_the_mean(self):
    codewords = jnp.array([[0.0, 0.1], [2.0, 0.1]])
    samples = jnp.array([[0, 1], [0, 1], [1, 1]])
    found = assignment.mixture(samples, codewords)
    np.testing.assert_allclose(found[0], [2 / 3, 0.1], rtol=1e-6)
    chex.assert_trees_all_equal(bits(found[1]), bits(codewords[1]))
    one = assignment.mixture(samples[:1], codewords)
    chex.assert_trees_all_equal(bits(one), bits(codewords))


class SoftStepTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.codewords = jnp.array([[0.0, 0.0], [2.0, 0.0]])
    self.z = jnp.array([[0.5, 0.0]])

  def step(self, **fields):
    quantizer = VectorQuantizer(2, 2, **fields)
    variables = make_variables(quantizer, self.z)
    if "params" in variables:
      variables["params"] = {"embedding": self.codewords}
    else:
      variables["codebook"] |= {
        "embedding": self.codewords,
        "embedding_sum": self.codewords,
      }
    weights = jnp.array([[2.0, 4.0]])  # of a mean of two numbers
    return train(quantizer, variables, self.z, weights=weights)

  def test_a_step_of_moving_averages(self):
    (_, of_z), result, after = self.step(
      update=EmaUpdate(decay=0.5), assignment=These((0, 0, 1, 0))
    )
    np.testing.assert_array_equal(result.values, [[0.5, 0]])
    np.testing.assert_array_equal(result.codes, [0])
    # The commitment is to the value, which is the point here.
    self.assertEqual(result.loss, 0)
    self.assertEqual(result.metrics["quantization_error"], 0)
    np.testing.assert_array_equal(of_z, [[1, 2]])
    # Usage is of codes, and what codewords learn from is of samples.
    self.assertEqual(result.metrics["usage"], 0.5)
    self.assertEqual(result.metrics["perplexity"], 1)
    np.testing.assert_array_equal(result.statistics.counts, [0.75, 0.25])
    state = after["codebook"]
    np.testing.assert_allclose(state["cluster_size"], [0.875, 0.625])
    np.testing.assert_allclose(
      state["embedding"], [[0.214286, 0], [1.7, 0]], atol=1e-6
    )

  @parameterized.parameters(
    # (1 - .5)^2 / 2, of which each codeword has its half.
    ({"update": GradientUpdate()}, [[0.25, 0], [0.25, 0]]),
    (
      {
        "update": GradientUpdate(codebook_cost=0),
        "estimator": Directional(),
      },
      [[0.5, 0], [0.5, 0]],  # of 1 along the first axis
    ),
  )
  def test_codewords_that_learn_by_gradients_share_them(self, fields, expected):
    (gradient, _), _, _ = self.step(
      commitment_cost=0.0, assignment=These((0, 1)), **fields
    )
    np.testing.assert_allclose(gradient["embedding"], expected, atol=1e-6)


class VectorQuantizerTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.plain = VectorQuantizer(8, 2)
    self.quantizer = self.plain.clone(assignment=SampledCodes(3, 2.0))
    self.z = jax.random.normal(jax.random.key(3), (4, 5, 2))
    self.variables = make_variables(self.plain, self.z)

  def apply(self, quantizer, rngs=RNGS, **arguments):
    step = jax.jit(
      lambda variables, z: quantizer.apply(
        variables, z, train=True, mutable=["codebook"], rngs=rngs, **arguments
      )
    )
    return step(self.variables, self.z)

  def test_without_a_draw_training_is_that_of_the_nearest(self):
    expected, state = self.apply(self.plain)
    found = self.apply(self.quantizer, {}, draw=False)
    chex.assert_trees_all_equal(bits(found), bits((expected, state)))
    traced, _ = self.apply(self.quantizer, draw=jnp.array(False))
    chex.assert_trees_all_equal(bits(traced.values), bits(expected.values))
    chex.assert_trees_all_equal(traced.codes, expected.codes)
    drawn, _ = self.apply(self.quantizer)
    self.assertTrue((drawn.codes != expected.codes).any())
    # All samples count, and each point once.
    self.assertAlmostEqual(float(drawn.statistics.counts.sum()), 20, places=4)

  def test_evaluation_takes_the_nearest(self):
    expected = self.plain.apply(self.variables, self.z)
    found = self.quantizer.apply(self.variables, self.z, draw=True)
    chex.assert_trees_all_equal(bits(found), bits(expected))
    codes = self.quantizer.apply(self.variables, self.z, method="encode")
    chex.assert_trees_all_equal(codes, expected.codes)
    self.assertFalse(self.quantizer.draws)

  def test_one_sample_is_a_codeword(self):
    quantizer = self.plain.clone(assignment=SampledCodes(1, 2.0))
    result, _ = self.apply(quantizer)
    decoded = self.plain.apply(self.variables, result.codes, method="decode")
    chex.assert_trees_all_equal(bits(result.values), bits(decoded))

  def test_a_sample_belongs_to_its_example(self):
    index = jnp.array([7, 1, 2, 5])
    result, _ = self.apply(self.quantizer, example_index=index)
    order = jnp.array([2, 0])
    self.z = self.z[order]
    some, _ = self.apply(self.quantizer, example_index=index[order])
    chex.assert_trees_all_equal(some.codes, result.codes[order])

  def test_training_needs_a_stream(self):
    self.assertEqual(self.plain.rng_streams, ())
    self.assertEqual(self.quantizer.rng_streams, ("gumbel",))
    with self.assertRaisesRegex(ValueError, 'rng stream "gumbel" is missing'):
      self.apply(self.quantizer, {})

  @parameterized.parameters(
    ({"assignment": 10}, "assignment is 10; it must be an AbstractAssignment"),
    ({"assignment": SampledCodes(0)}, "assignment.num_samples is 0"),
    ({"assignment": SampledCodes(1, 0.0)}, "assignment.temperature is 0.0"),
    ({"assignment": SampledCodes(1, -1.0)}, "assignment.temperature is -1.0"),
    ({"estimator": RotationTrick()}, "estimator is Rot.*where assignment is S"),
    ({"price": CodedPrice()}, "price is CodedPrice.*where assignment is S"),
    (
      {"shard_codebook": True, "axis_name": "devices"},
      "shard_codebook is True.*where assignment is S",
    ),
  )
  def test_fields(self, fields, message):
    with self.assertRaisesRegex(ValueError, message):
      self.quantizer.clone(**fields).check()

  def test_pools_and_stages_have_no_such_field(self):
    for make in (
      lambda **fields: AdaptiveQuantizer(((8, 2), (6, 3)), 4, **fields),
      lambda **fields: ResidualQuantizer(2, 8, 2, **fields),
    ):
      with self.assertRaisesRegex(TypeError, "assignment"):
        make(assignment=SampledCodes())
