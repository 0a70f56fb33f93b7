from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

from adq_jax import QINCo2Network
from adq_jax import QINCoNetwork

NETWORKS = (QINCoNetwork(2, hidden=5), QINCo2Network(2, width=6, hidden=5))


def made(network, dim, scale=0.0):
  """Returns parameters as they start, plus noise, of one stage."""
  rng = np.random.default_rng(0)
  key = jax.random.key(0)
  return {
    name: init(key, shape, jnp.float32)
    + jnp.asarray(scale * rng.normal(size=shape), jnp.float32)
    for name, (shape, init) in network.parameters(dim).items()
  }


def apply(network, parameters, codewords, sums):
  entered = network.enter(parameters, codewords)
  return network.finish(parameters, codewords, entered, sums)


def reference(parameters, codewords, sums):
  """The papers' networks with concatenated inputs, in float64."""
  p = {name: np.asarray(x, np.float64) for name, x in parameters.items()}
  y = codewords @ p["in"] if "in" in p else codewords
  y = y + np.concatenate([y, sums], axis=-1) @ p["mix"] + p["bias"]
  for up, down in zip(p["up"], p["down"], strict=True):
    y = y + np.maximum(y @ up, 0) @ down
  return codewords + y @ p["out"] if "out" in p else y


class ImplicitNetworksTest(parameterized.TestCase):
  @parameterized.parameters(*NETWORKS)
  def test_it_is_the_papers_network(self, network):
    rng = np.random.default_rng(1)
    codewords, sums = rng.normal(size=(2, 7, 3)).astype(np.float32)
    parameters = made(network, 3, scale=0.5)
    found = apply(network, parameters, codewords, sums)
    expected = reference(parameters, codewords, sums)
    self.assertGreater(np.abs(expected - codewords).min(), 1e-3)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)

  @parameterized.parameters(*NETWORKS, QINCo2Network(1, width=3, hidden=5))
  def test_it_starts_as_the_identity_of_codewords_and_learns(self, network):
    rng = np.random.default_rng(1)
    codewords, sums = rng.normal(size=(2, 7, 3)).astype(np.float32)
    parameters = made(network, 3)
    np.testing.assert_array_equal(
      apply(network, parameters, codewords, sums), codewords
    )
    gradient = jax.grad(
      lambda p: jnp.square(apply(network, p, codewords, sums) - 1).sum()
    )(parameters)
    learns = "out" if "out" in parameters else "down"
    self.assertGreater(np.abs(gradient[learns]).max(), 0.1)

  @parameterized.parameters(
    (QINCoNetwork(-1), "num_blocks is -1"),
    (QINCoNetwork(257), "num_blocks is 257; it must be at most 256"),
    (QINCoNetwork(1, 0), "hidden is 0"),
    (QINCo2Network(1, 0), "width is 0"),
    (QINCo2Network(hidden=2.5), "hidden is 2.5"),
  )
  def test_fields(self, network, message):
    with self.assertRaisesRegex(ValueError, message):
      network.check()
