import math

from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np

from adq_jax import AdaptiveQuantizer
from adq_jax import AttentionChoice
from adq_jax import CodedPrice
from adq_jax import DistortionChoice
from adq_jax import NominalPrice

_POOL = ((12, 4), (20, 2))
_FEATURES = 4
_Z = jax.random.normal(jax.random.key(5), (16, 5, _FEATURES), jnp.float32)
_COUNTS = (np.arange(12.0) ** 2, np.arange(20.0)[::-1] ** 3)
_BOOKS = np.array([1.0, 7.0])


def make(price):
  return AdaptiveQuantizer(
    _POOL, _FEATURES, choice=DistortionChoice(), price=price
  )


def make_variables(quantizer):
  """With some codewords, and choices, that are used more than others."""
  variables = jax.jit(quantizer.init)(jax.random.key(0), _Z)
  state = dict(variables["codebook"])
  for i, counts in enumerate(_COUNTS):
    state[f"codebooks_{i}"] = state[f"codebooks_{i}"] | {
      "cluster_size": jnp.asarray(counts, jnp.float32)
    }
  if "book" in state:
    state["book"] = jnp.asarray(_BOOKS, jnp.float32)
  return {**variables, "codebook": state}


def coded_bits(counts):
  """As `price.coded_bits`, in float64."""
  shares = counts / counts.mean() + 1e-3
  return np.log2(len(counts) * 1.001) - np.log2(shares)


def cheapest(quantizer, variables, weights, bits):
  """The codebook and index of least cost of all, in float64.

  Args:
    quantizer: the pool.
    variables: its variables.
    weights: what a bit costs each point, `[T]`.
    bits: of the choices, and of the codewords of each codebook.
  """
  z = np.asarray(_Z, np.float64).reshape(-1, _FEATURES)
  costs = []
  for i, (size, _) in enumerate(_POOL):
    index = jnp.arange(size)
    codes = quantizer.from_streams(
      [jnp.full(size, i), *(index if i == k else index * 0 for k in range(2))]
    )
    values = np.asarray(
      quantizer.apply(variables, codes, method="decode"), np.float64
    )
    squares = np.square(z[:, None] - values[None]).mean(axis=-1)
    own = bits[0][i] + bits[1 + i]
    costs.append(squares + weights[:, None] * own[None])
  best = np.concatenate(costs, axis=1).argmin(axis=1)
  book = (best >= _POOL[0][0]).astype(np.int32)
  return book, best - book * _POOL[0][0]


class PoolTariffTest(parameterized.TestCase):
  @parameterized.product(coded=(False, True), weight=(0.0, 0.03, 1.0, None))
  def test_codes_are_the_cheapest_of_all(self, coded, weight):
    price = (CodedPrice if coded else NominalPrice)(0.3)
    quantizer = make(price)
    variables = make_variables(quantizer)
    weights = np.full(16, 0.3 if weight is None else weight)
    weights[::3] *= 2
    codes = jax.jit(
      lambda v, w: quantizer.apply(v, _Z, rate_weight=w, method="encode")
    )(variables, jnp.asarray(weights, jnp.float32))
    nominal = [np.full(n, math.log2(n)) for n, _ in _POOL]
    of_codewords = map(coded_bits, _COUNTS) if coded else nominal
    book, index = cheapest(
      quantizer,
      variables,
      np.repeat(weights, 5),
      [coded_bits(_BOOKS), *of_codewords],
    )
    np.testing.assert_array_equal(codes.book.reshape(-1), book)
    np.testing.assert_array_equal(codes.index.reshape(-1), index)

  def test_a_price_of_nothing_is_no_price(self):
    priced = make(CodedPrice())
    plain = AdaptiveQuantizer(_POOL, _FEATURES, choice=DistortionChoice())
    variables = jax.jit(plain.init)(jax.random.key(0), _Z)
    expected = jax.jit(plain.apply)(variables, _Z)
    found = jax.jit(priced.apply)(variables, _Z)
    chex.assert_trees_all_equal(found.codes, expected.codes)

  def test_a_higher_price_takes_fewer_bits(self):
    quantizer = make(CodedPrice())
    variables = make_variables(quantizer)
    evaluate = jax.jit(
      lambda w: quantizer.apply(variables, _Z, rate_weight=w).metrics["rate"]
    )
    rates = [float(evaluate(weight)) for weight in (0.0, 0.03, 0.3, 3.0)]
    self.assertEqual(rates, sorted(rates, reverse=True))
    self.assertGreater(rates[0], 2 * rates[-1])

  def test_evaluation_takes_the_tables_it_is_given(self):
    quantizer = make(CodedPrice())
    prices = np.array([1e-2, 1.0], np.float32)
    dear = np.full((2, 20), 30.0, np.float32)
    cheap = dear[:, :12].copy()
    cheap[1, 7] = 1
    tables = {
      "prices": prices,
      "book": np.array([[1, 1], [1, 9]], np.float32),
      "index_0": cheap,
      "index_1": dear,
    }
    variables = {**make_variables(quantizer), "rates": tables}
    result = quantizer.apply(variables, _Z, rate_weight=1.0)
    chex.assert_trees_all_equal(result.codes.book, jnp.zeros((16, 5), int))
    chex.assert_trees_all_equal(
      result.codes.index, jnp.full((16, 5), 7, jnp.int32)
    )
    self.assertAlmostEqual(float(result.metrics["rate"]), 2, places=5)

  def test_training_counts_choices(self):
    quantizer = make(CodedPrice(0.1))
    variables = make_variables(quantizer)
    result, state = jax.jit(
      lambda v: quantizer.apply(v, _Z, train=True, mutable=["codebook"])
    )(variables)
    selected = result.metrics["selection"] * 80
    chex.assert_trees_all_close(
      state["codebook"]["book"], 0.99 * _BOOKS + 0.01 * selected, rtol=1e-5
    )
    self.assertLen(result.statistics, 3)
    _, again = quantizer.apply(
      variables,
      result.statistics,
      method="update_codebook",
      mutable=["codebook"],
    )
    chex.assert_trees_all_close(again, state, rtol=1e-6)

  def test_a_pool_of_one_has_no_choice_to_pay_for(self):
    quantizer = AdaptiveQuantizer(
      _POOL[:1], _FEATURES, choice=DistortionChoice(), price=CodedPrice(1.0)
    )
    result, variables = quantizer.init_with_output(jax.random.key(0), _Z)
    self.assertNotIn("book", variables["codebook"])
    self.assertAlmostEqual(
      float(result.metrics["rate"]), math.log2(12), places=5
    )

  @parameterized.parameters(
    ({"choice": AttentionChoice()}, "^choice is .*price is CodedPrice"),
    ({"choice": DistortionChoice(0.1)}, "^choice is .*rate_weight must be 0"),
    ({"selection_unit": "channels"}, "^price is .*'channels'"),
    ({"output_kernel": 3}, "^price is .*output_kernel 3"),
    ({"price": "coded"}, "^price is 'coded'"),
  )
  def test_what_does_not_fit_is_refused_by_name(self, fields, message):
    with self.assertRaisesRegex(ValueError, message):
      make(CodedPrice()).clone(**fields).check()
