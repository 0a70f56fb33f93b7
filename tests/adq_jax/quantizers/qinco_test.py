from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np

from adq_jax import CodedPrice
from adq_jax import QINCo
from adq_jax import QINCo2Network
from adq_jax import QINCoNetwork


def by_hand():
  """A quantizer of numbers whose codewords a reader can compute."""
  quantizer = QINCo(
    2, 2, 1, network=QINCoNetwork(1, hidden=1), commitment_cost=0.5
  )
  params = {
    "embedding": jnp.array([[[0.0], [2.0]], [[-1.0], [1.0]]]),
    "network_mix": jnp.array([[[0.5], [0.25]]]),
    "network_bias": jnp.array([[0.1]]),
    "network_up": jnp.ones((1, 1, 1, 1)),
    "network_down": jnp.full((1, 1, 1, 1), 0.5),
  }
  return quantizer, {"params": params}


class QINCoTest(parameterized.TestCase):
  def test_a_point_by_hand(self):
    quantizer, variables = by_hand()
    # From 2 the second stage's codewords are -0.9 and 3.15.
    result = quantizer.apply(variables, jnp.array([[4.9]]))
    chex.assert_trees_all_equal(result.codes, jnp.ones((1, 2), jnp.int32))
    np.testing.assert_allclose(result.values, [[5.15]], rtol=1e-6)
    errors = np.array([8.41, 0.0625])
    np.testing.assert_allclose(
      result.metrics["quantization_error"], errors, rtol=1e-5
    )
    expected = errors.sum() + 0.5 * errors.mean()
    np.testing.assert_allclose(result.loss, expected, rtol=1e-5)
    other = quantizer.apply(variables, jnp.array([[1, 0]]), method="decode")
    np.testing.assert_allclose(other, [[1.1]], rtol=1e-6)

  def test_late_stages_train_early_ones(self):
    quantizer, variables = by_hand()

    def loss(params, z):
      return quantizer.apply({"params": params}, z).loss

    params, z = jax.grad(loss, (0, 1))(variables["params"], jnp.array([[4.9]]))
    # d/dc of (c - 4.9)^2 + (c + f - 4.9)^2, where f has the slope 0.375 in c.
    expected = 2 * (2 - 4.9) + 2 * (5.15 - 4.9) * 1.375
    np.testing.assert_allclose(
      params["embedding"][0, 1, 0], expected, rtol=1e-4
    )
    # Commitment alone: half the mean of both.
    np.testing.assert_allclose(z, [[0.5 * (2.9 - 0.25)]], rtol=1e-4)

  def test_values_have_the_gradient_of_z_once(self):
    quantizer, variables = by_hand()
    gradient = jax.grad(
      lambda v, z: quantizer.apply(v, z).values.sum(), (0, 1)
    )(variables, jnp.array([[4.9], [-3.0]]))
    np.testing.assert_array_equal(gradient[1], [[1.0], [1.0]])
    for own in jax.tree.leaves(gradient[0]):
      np.testing.assert_array_equal(own, 0)

  def test_candidates_learn_what_is_left_of_points(self):
    quantizer, variables = by_hand()
    quantizer = quantizer.clone(num_candidates=1)
    params = {**variables["params"], "candidates": jnp.array([[[0.5], [9.0]]])}

    def loss(params):
      return quantizer.apply({"params": params}, jnp.array([[4.9]])).loss

    # 2.9 is left after the first stage.  The nearest candidate is the first,
    # although the second stage would make 5.15 of the other.
    result = quantizer.apply({"params": params}, jnp.array([[4.9]]))
    np.testing.assert_array_equal(result.codes, [[1, 0]])
    gradient = jax.grad(loss)(params)["candidates"]
    np.testing.assert_allclose(
      gradient, [[[2 * (0.5 - 2.9)], [0]]], rtol=1e-5, atol=1e-6
    )

  def test_codewords_that_no_point_takes_are_replaced(self):
    quantizer, variables = by_hand()
    quantizer = quantizer.clone(replace_every=1)
    z = jnp.array([[4.9], [4.8], [4.7]])
    variables = quantizer.init(jax.random.key(0), z) | variables
    _, state = quantizer.apply(
      variables,
      z,
      train=True,
      mutable=["codebook"],
      rngs={"codebook": jax.random.key(0)},
    )
    before, after = (
      quantizer.apply(v, jnp.array([[0, 0], [1, 1]]), 1, method="decode")
      for v in (variables, {**variables, **state})
    )
    np.testing.assert_array_equal(before, [[0], [2]])
    np.testing.assert_allclose(after, [[4.8], [2]], atol=3**0.5 * 0.09)
    self.assertEqual(after[1], 2)

  def test_training_lowers_the_error_and_a_beam_lowers_it_further(self):
    z = jax.random.normal(jax.random.key(0), (256, 2))
    quantizer = QINCo(2, 4, 2, network=QINCo2Network(1, 4, 8))

    def error(quantizer, variables):
      result = quantizer.apply(variables, z)
      return result.metrics["quantization_error"][-1]

    def step(_, variables):
      gradient = jax.grad(lambda v: quantizer.apply(v, z).loss)(variables)
      return jax.tree.map(lambda x, g: x - 0.1 * g, variables, gradient)

    @jax.jit
    def run():
      variables = quantizer.init(jax.random.key(1), z)
      trained = jax.lax.fori_loop(0, 100, step, variables)
      wider = quantizer.clone(beam_size=4)
      return error(quantizer, variables), *(
        error(q, trained) for q in (quantizer, wider)
      )

    before, after, beam = run()
    self.assertLess(after, 0.7 * before)
    self.assertLess(beam, after)


class ErrorsTest(parameterized.TestCase):
  @parameterized.parameters(
    ({"num_stages": 0}, "num_stages is 0"),
    ({"num_stages": 257}, "num_stages is 257; it must be at most 256"),
    ({"features": 0}, "features is 0"),
    ({"network": "qinco"}, "network is 'qinco'; it must be an Abstract"),
    ({"network": QINCoNetwork(-1)}, "network.num_blocks is -1"),
    ({"num_candidates": 5}, "num_candidates is 5; it must be at most 4"),
    ({"beam_size": 5}, "beam_size is 5; it must be at most 4, the codebook"),
    ({"replace_every": -1}, "replace_every is -1"),
    ({"beam_size": 0}, "beam_size is 0"),
    ({"commitment_cost": -1}, "commitment_cost is -1"),
    ({"estimator": CodedPrice()}, "estimator is CodedPrice"),
  )
  def test_fields(self, fields, message):
    with self.assertRaisesRegex(ValueError, message):
      of = {"num_stages": 2, "codebook_size": 4, "embedding_dim": 3}
      QINCo(**of | fields).check()

  def test_calls(self):
    quantizer, variables = by_hand()
    with self.assertRaisesRegex(ValueError, "num_stages is 3; it must be at"):
      quantizer.apply(
        variables, np.zeros((1, 2), int), num_stages=3, method="decode"
      )
    with self.assertRaisesRegex(ValueError, r"codes has shape \(1, 3\)"):
      quantizer.to_streams(np.zeros((1, 3), int))
