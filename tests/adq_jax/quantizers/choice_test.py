from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adq_jax import AdaptiveQuantizer

KEYS = {"params": jax.random.key(0), "codebook": jax.random.key(1)}
STRUCTURES = ((16, 4), (32, 2), (64, 1))


def make(**fields):
  z = jax.random.normal(jax.random.key(2), (4, 4, 4, 6))
  quantizer = AdaptiveQuantizer(STRUCTURES, 6, selection="distortion", **fields)
  return quantizer, jax.jit(quantizer.init)(KEYS, z), z


class DistortionTest(parameterized.TestCase):
  @parameterized.parameters(0.0, 0.05)
  def test_the_choice_costs_least(self, rate_weight):
    quantizer, variables, z = make(rate_weight=rate_weight)
    result = quantizer.apply(variables, z)
    values = [
      quantizer.apply(
        variables, z, method=lambda self, z, i=i: self.codebooks[i](z)
      ).values
      for i in range(3)
    ]
    errors = np.stack([np.square(z - v).mean(axis=-1) for v in values], -1)
    costs = errors + rate_weight * np.array([4.0, 5.0, 6.0])
    np.testing.assert_array_equal(result.codes.book, costs.argmin(axis=-1))
    self.assertLen(set(np.asarray(result.codes.book).reshape(-1).tolist()), 3)
    chosen = np.take_along_axis(errors, result.codes.book[..., None], -1)
    np.testing.assert_allclose(
      np.square(z - result.values).mean(axis=-1), chosen[..., 0], rtol=1e-5
    )

  @pytest.mark.slow
  def test_expensive_bits_leave_the_smallest_codebook(self):
    quantizer, variables, z = make(rate_weight=1e3)
    metrics = quantizer.apply(variables, z).metrics
    np.testing.assert_array_equal(metrics["selection"], [1, 0, 0])
    np.testing.assert_allclose(metrics["rate"], 4)

  def test_nothing_is_drawn_or_learned_for_the_choice(self):
    quantizer, variables, z = make()
    self.assertNotIn("selector", variables["params"])
    result = quantizer.apply(
      variables,
      z,
      train=True,
      mutable=["codebook"],
      rngs={"codebook": jax.random.key(0)},
    )[0]
    np.testing.assert_array_equal(
      result.codes.book, quantizer.apply(variables, z).codes.book
    )

  def test_the_loss_makes_autoencoders_of_the_codebooks(self):
    quantizer, variables, z = make(commitment_cost=0.0)
    values = [
      quantizer.apply(
        variables, z, method=lambda self, z, i=i: self.codebooks[i](z)
      ).values
      for i in range(3)
    ]
    expected = np.mean([np.square(z - v).mean() for v in values])

    def loss(params, z):
      return quantizer.apply({**variables, "params": params}, z).loss

    value, gradient = jax.value_and_grad(loss)(variables["params"], z)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    for i in range(3):
      for name in ("project_in", "project_out"):
        kernel = gradient[f"codebooks_{i}"][name]["kernel"]
        self.assertGreater(jnp.abs(kernel).max(), 0, (i, name))

  def test_z_is_only_drawn_to_its_values(self):
    quantizer, variables, z = make(commitment_cost=0.5)

    def losses(z):
      result = quantizer.apply(variables, z)
      return result.loss, (result.values * weights).sum()

    weights = jax.random.normal(jax.random.key(5), z.shape)
    values = quantizer.apply(variables, z).values
    of_loss, of_values = jax.jacrev(losses)(z)
    # That of an autoencoder, straight-through, would have the other sign.
    np.testing.assert_allclose(
      of_loss, 0.5 * 2 * (z - values) / z.size, rtol=1e-4, atol=1e-7
    )
    np.testing.assert_array_equal(of_values, weights)
