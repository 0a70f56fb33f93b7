from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np

from adq_jax import AdaptiveQuantizer
from adq_jax import CodedPrice
from adq_jax import DistortionChoice
from adq_jax import FSQ
from adq_jax import ProductQuantizer
from adq_jax import RandomKept
from adq_jax import ResidualQuantizer
from adq_jax import VectorQuantizer
from adq_jax.quantizers import kept

SIGNS = jnp.array([[-1.0], [1.0]])


def make(shared, **fields):
  """Three groups of a number, each of which becomes its sign."""
  quantizer = ProductQuantizer(
    3,
    VectorQuantizer(2, 1, commitment_cost=1.0),
    shared_codebook=shared,
    kept=RandomKept(),
    **fields,
  )
  variables = quantizer.init(jax.random.key(0), jnp.zeros((1, 3)))
  for own in variables["codebook"].values():
    own["embedding"] = SIGNS
  return quantizer, variables


class KeptTest(parameterized.TestCase):
  def test_groups_of_no_bits_cost_nothing(self):
    quantizer = ProductQuantizer(2, VectorQuantizer(1, 2), kept=RandomKept())
    z = jnp.ones((1, 4))
    variables = quantizer.init(jax.random.key(0), z)
    for own in variables["codebook"].values():
      own["embedding"] = jnp.ones((1, 2))
    codes = quantizer.apply(variables, z, rate_weight=9.0, method="encode")
    chex.assert_trees_all_equal(codes, jnp.zeros((1, 2), jnp.int32))

  def test_what_follows_a_dropped_group_is_dropped(self):
    quantizer, variables = make(False)
    codes = jnp.array([[1, -1, 0]])
    sent = quantizer.from_streams(quantizer.to_streams(codes))
    chex.assert_trees_all_equal(sent, jnp.array([[1, -1, -1]]))
    for given in (codes, sent):
      values = quantizer.apply(variables, given, method="decode")
      chex.assert_trees_all_equal(values, jnp.array([[1.0, 0, 0]]))

  @parameterized.parameters(False, True)
  def test_a_point_by_hand(self, shared):
    quantizer, variables = make(shared)
    z = jnp.array([[0.4, -2.0, 0.3]])
    result = quantizer.apply(variables, z, num_kept=2)
    chex.assert_trees_all_equal(result.codes, jnp.array([[1, 0, -1]]))
    chex.assert_trees_all_equal(result.values, jnp.array([[1.0, -1, 0]]))
    np.testing.assert_allclose(result.loss, 0.68, rtol=1e-6)
    self.assertEqual(result.metrics["rate"], 2)
    np.testing.assert_array_equal(result.metrics["selection"], [0, 1, 0])
    streams = quantizer.to_streams(result.codes)
    np.testing.assert_array_equal(np.ravel(streams), [1, 1, 0, 0])
    sent = [quantizer.sent(k, streams[:k]) for k in range(4)]
    self.assertIsNone(sent[0])
    np.testing.assert_array_equal(np.ravel(sent[1:]), [True, True, False])
    chex.assert_trees_all_equal(quantizer.from_streams(streams), result.codes)

  @parameterized.parameters(False, True)
  def test_points_that_keep_fewer_groups_weigh_less(self, shared):
    quantizer, variables = make(shared)
    z = jnp.array([[0.4, -2.0, 0.3], [0.5, 9.0, 9.0]])
    result = quantizer.apply(variables, z, num_kept=jnp.array([2, 1]))
    expected = (0.6**2 + 1 + 0.5**2) / 3
    np.testing.assert_allclose(result.loss, expected, rtol=1e-6)
    codes = quantizer.apply(
      variables, z, num_kept=jnp.array([2, 1]), method="encode"
    )
    chex.assert_trees_all_equal(codes, jnp.array([[1, 0, -1], [1, -1, -1]]))

  def test_a_dropped_group_learns_a_vector_and_has_no_gradient(self):
    quantizer, variables = make(False)
    z = jnp.array([[0.4, -2.0, 0.3]])

    def total(params, z):
      result = quantizer.apply({**variables, "params": params}, z, num_kept=1)
      return (result.values * jnp.array([[1.0, 2, 3]])).sum()

    gradients = jax.grad(total, (0, 1))(variables["params"], z)
    np.testing.assert_array_equal(gradients[0]["dropped"], [[0], [2], [3]])
    np.testing.assert_array_equal(gradients[1], [[1, 0, 0]])

  def test_training_draws_each_number_of_the_first_groups(self):
    quantizer, variables = make(True)
    result, _ = quantizer.apply(
      variables,
      jnp.ones((3, 200, 3)),
      train=True,
      mutable=["codebook"],
      rngs={"dropout": jax.random.key(0)},
    )
    is_kept = np.asarray(result.codes) >= 0
    self.assertTrue(is_kept[..., 0].all())
    self.assertFalse((is_kept[..., 2] & ~is_kept[..., 1]).any())
    np.testing.assert_allclose(result.metrics["selection"], 1 / 3, atol=0.06)
    self.assertFalse((is_kept[0] == is_kept[1]).all())

  def test_as_many_groups_as_are_worth_their_bits(self):
    quantizer, variables = make(True)
    # A kept group takes z^2 - (|z| - 1)^2 off the sum: 1, 0.6 and 0.2.
    z = jnp.array([1.0, -0.8, 0.6])
    for price, expected in ((0.0, 3), (0.06, 3), (0.1, 2), (0.25, 1), (9, 1)):
      codes = quantizer.apply(variables, z, rate_weight=price, method="encode")
      self.assertEqual((codes >= 0).sum(), expected, price)
    # One that gains nothing is kept for the one after it.
    gaining = jnp.array([1.0, 0.5, -0.8])
    codes = quantizer.apply(
      variables, gaining, rate_weight=0.09, method="encode"
    )
    chex.assert_trees_all_equal(codes, jnp.array([1, 1, 0]))
    own = quantizer.clone(kept=RandomKept(0.1))
    codes = own.apply(variables, z, method="encode")
    chex.assert_trees_all_equal(codes, jnp.array([1, 0, -1]))
    codes = quantizer.apply(variables, z, method="encode")
    chex.assert_trees_all_equal(codes, jnp.array([1, 0, 1]))

  @parameterized.parameters((ResidualQuantizer(2, 4, 2),), (FSQ((5, 4)),))
  def test_groups_of_several_codes(self, inner):
    quantizer = ProductQuantizer(3, inner, kept=RandomKept())
    z = jax.random.normal(jax.random.key(0), (5, 6))
    variables = quantizer.init(jax.random.key(1), z)
    num_kept = jnp.array([1, 2, 3, 1, 2])
    result = quantizer.apply(variables, z, num_kept=num_kept)
    streams = quantizer.to_streams(result.codes)
    np.testing.assert_array_equal(streams[0] + 1, num_kept)
    again = quantizer.from_streams(streams)
    chex.assert_trees_all_equal(again, result.codes)
    decoded = quantizer.apply(variables, again, method="decode")
    chex.assert_trees_all_equal(decoded, result.values)

  def test_choose_in_float64(self):
    rng = np.random.default_rng(0)
    points, quantized = rng.normal(size=(2, 300, 4, 3)).astype(np.float32)
    dropped = rng.normal(size=(4, 3)).astype(np.float32)
    weight = rng.uniform(0, 0.3, 300).astype(np.float32)
    found = kept.choose(points, quantized, dropped, weight, bits=2.5)
    costs = []
    for n in range(1, 5):
      values = np.broadcast_to(dropped, points.shape).astype(np.float64)
      values[:, :n] = quantized[:, :n]
      error = np.square(points - values).mean(axis=(1, 2))
      costs.append(error + 2.5 * n * weight.astype(np.float64))
    np.testing.assert_array_equal(found, np.argmin(costs, axis=0) + 1)

  def test_what_does_not_fit(self):
    quantizer, variables = make(True)
    z = jnp.zeros((2, 3))
    for num_kept, message in (
      (0.5, "num_kept has dtype"),
      (jnp.ones(3, int), r"num_kept has shape \(3,\)"),
    ):
      with self.assertRaisesRegex(ValueError, message):
        quantizer.apply(variables, z, num_kept=num_kept)
    with self.assertRaisesRegex(ValueError, r"num_kept is given; .* AllKept"):
      plain = ProductQuantizer(3, FSQ((5,)))
      plain.apply({}, z, num_kept=1)
    with self.assertRaisesRegex(ValueError, r"kept\.rate_weight is -1"):
      quantizer.clone(kept=RandomKept(-1.0)).check()
    for inner in (
      VectorQuantizer(4, 2, price=CodedPrice()),
      AdaptiveQuantizer(((8, 1), (4, 2)), 2, choice=DistortionChoice()),
    ):
      with self.assertRaisesRegex(ValueError, r"quantizer\.has_price is"):
        quantizer.clone(quantizer=inner).check()
