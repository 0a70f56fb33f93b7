"""How many stages a point takes, where bits cost."""

from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np

from adq_jax import codebook_from
from adq_jax import CodedPrice
from adq_jax import NominalPrice
from adq_jax import NoPrice
from adq_jax import ResidualQuantizer
from tests.support.small import train

_STAGES, _SIZE, _DIM = 3, 6, 2
_SIZES = np.random.default_rng(1).uniform(0.1, 9, (_STAGES, _SIZE))
_DEPTHS = np.array([1.0, 5.0, 3.0, 1.0])


def make(price, **fields):
  """A quantizer with finer codewords in each stage, used unequally."""
  quantizer = ResidualQuantizer(_STAGES, _SIZE, _DIM, price=price, **fields)
  rng = np.random.default_rng(0)
  state = {
    f"codebooks_{s}": codebook_from(
      jnp.asarray(rng.normal(size=(_SIZE, _DIM)) / 2**s, jnp.float32),
      jnp.asarray(_SIZES[s], jnp.float32),
    ).to_collection()
    for s in range(_STAGES)
  }
  if quantizer.has_price:
    state["depth"] = jnp.asarray(_DEPTHS, jnp.float32)
  return quantizer, {"codebook": state}


def bits_of(sizes):
  share = sizes / sizes.mean() + 1e-3
  return -np.log2(share / share.sum())


def greedy(variables, z, weight, of_codewords, of_depths):
  """The codes, by float64, and how much the best is better than the next."""
  books = [
    np.float64(variables["codebook"][f"codebooks_{s}"]["embedding"])
    for s in range(_STAGES)
  ]
  left, bits, codes = np.float64(z), np.zeros(len(z)), []
  costs = [np.square(left).mean(axis=1) + weight * of_depths[0]]
  for s, book in enumerate(books):
    own = np.square(left[:, None] - book).mean(axis=2)
    own += weight * of_codewords[s]
    codes.append(own.argmin(axis=1))
    left = left - book[codes[-1]]
    bits = bits + of_codewords[s][codes[-1]]
    cost = np.square(left).mean(axis=1) + weight * (bits + of_depths[s + 1])
    costs.append(cost)
  depths = np.argmin(costs, axis=0)
  codes = np.where(np.arange(_STAGES) < depths[:, None], np.stack(codes, 1), -1)
  bits = of_depths[depths] + sum(
    np.where(codes[:, s] >= 0, of_codewords[s][codes[:, s]], 0)
    for s in range(_STAGES)
  )
  return codes, depths, bits


class ChoiceTest(parameterized.TestCase):
  @parameterized.product(weight=[0.0, 0.003, 0.03, 0.3], coded=[False, True])
  def test_codes_and_depth_are_those_of_the_least_cost(self, weight, coded):
    price = CodedPrice() if coded else NominalPrice()
    quantizer, variables = make(price)
    z = jax.random.normal(jax.random.key(3), (200, _DIM))
    of_codewords = [
      bits_of(sizes) if coded else np.full(_SIZE, np.log2(_SIZE))
      for sizes in _SIZES
    ]
    codes, depths, bits = greedy(
      variables, z, weight, of_codewords, bits_of(_DEPTHS)
    )
    result = quantizer.apply(variables, z, rate_weight=weight)
    np.testing.assert_array_equal(result.codes, codes)
    np.testing.assert_allclose(result.metrics["rate"], bits.mean(), rtol=1e-5)
    np.testing.assert_allclose(
      result.metrics["selection"],
      np.bincount(depths, minlength=_STAGES + 1) / 200,
      rtol=1e-6,
    )
    if weight == 0.03:  # all of them occur
      self.assertEqual(set(depths), set(range(_STAGES + 1)))

  def test_each_example_has_a_price(self):
    quantizer, variables = make(CodedPrice())
    z = jax.random.normal(jax.random.key(3), (3, 4, 5, _DIM))
    weight = jnp.array([0.0, 0.03, 1e5])
    found = quantizer.apply(variables, z, rate_weight=weight)
    for i in range(3):
      own = quantizer.apply(
        variables, z[i], rate_weight=weight[i], method="encode"
      )
      chex.assert_trees_all_equal(found.codes[i], own)
    self.assertTrue((found.codes[2] == found.codes[2, 0, 0]).all())

  def test_a_beam_finds_a_cheaper_sum(self):
    # methods: z = .65; greedily .6 and nothing better, or 1 and -.35.
    embedding = jnp.array([[0.6], [1.0], [-0.35]])
    codebook = codebook_from(embedding).to_collection()
    variables = {"codebook": {"codebooks_0": codebook, "depth": jnp.ones(3)}}
    z = jnp.array([[0.65]])
    for beam_size, codes in ((1, [0, -1]), (2, [1, 2])):
      quantizer = ResidualQuantizer(
        2,
        3,
        1,
        shared_codebook=True,
        beam_size=beam_size,
        price=CodedPrice(1e-4),
      )
      found = quantizer.apply(variables, z, method="encode")
      np.testing.assert_array_equal(found, [codes])
    # Where a stage costs more than it brings, it is left out.
    found = quantizer.apply(variables, z, rate_weight=0.01, method="encode")
    np.testing.assert_array_equal(found, [[0, -1]])


class StreamsTest(parameterized.TestCase):
  def test_the_depth_tells_which_stages_are_sent(self):
    quantizer, _ = make(CodedPrice())
    depth, *stages = quantizer.streams
    self.assertEqual(depth.name, "depth")
    self.assertEqual((depth.alphabet, depth.coding), (4, "entropy"))
    self.assertLen(stages, _STAGES)
    codes = jnp.array([[-1, -1, -1], [3, -1, -1], [5, 0, -1], [1, 2, 3]])
    values = quantizer.to_streams(codes)
    np.testing.assert_array_equal(values[0], [0, 1, 2, 3])
    np.testing.assert_array_equal(values[1], [0, 3, 5, 1])
    self.assertIsNone(quantizer.sent(0, ()))
    np.testing.assert_array_equal(
      quantizer.sent(2, values[:2]), [False, False, True, True]
    )
    chex.assert_trees_all_equal(quantizer.from_streams(values), codes)

  def test_without_a_price_there_is_no_depth(self):
    quantizer, variables = make(NoPrice())
    self.assertEqual([s.name for s in quantizer.streams][0], "stage_0")
    self.assertNotIn("depth", variables["codebook"])


class TrainingTest(parameterized.TestCase):
  def test_depths_are_counted(self):
    quantizer, variables = make(CodedPrice(0.03))
    z = jax.random.normal(jax.random.key(3), (50, _DIM))
    mask = jnp.arange(50) < 40
    _, result, after = train(quantizer, variables, z, mask)
    depths = np.asarray(quantizer.to_streams(result.codes)[0])[:40]
    counts = np.bincount(depths, minlength=4)
    np.testing.assert_allclose(
      after["codebook"]["depth"], 0.99 * _DEPTHS + 0.01 * counts, rtol=1e-6
    )
    np.testing.assert_array_equal(result.statistics[-1].counts, counts)
    # A stage learns from the points that use it.
    for s in range(_STAGES):
      self.assertEqual(result.statistics[s].counts.sum(), (depths > s).sum())

  def test_a_state_that_was_made_without_a_price(self):
    quantizer, variables = make(CodedPrice(0.03))
    del variables["codebook"]["depth"]
    z = jax.random.normal(jax.random.key(3), (50, _DIM))
    found = quantizer.apply(variables, z, method="encode")
    variables["codebook"]["depth"] = jnp.ones(4)
    expected = quantizer.apply(variables, z, method="encode")
    chex.assert_trees_all_equal(found, expected)

  def test_what_does_not_fit_is_refused(self):
    with self.assertRaisesRegex(ValueError, "stage_dropout is 0.5; it must be"):
      make(CodedPrice(), stage_dropout=0.5)[0].check()
    quantizer, variables = make(CodedPrice())
    variables["codebook"]["depth"] = jnp.ones(4, jnp.bfloat16)
    with self.assertRaisesRegex(ValueError, "depth in the .* bfloat16"):
      train(quantizer, variables, jnp.ones((2, _DIM)))
