from absl.testing import parameterized
import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from adq_jax import InitialValues
from adq_jax import VectorQuantizer
from adq_jax import VQVAE
from adq_jax.models import networks


def params_of(module, width, **initial):
  z = jnp.zeros((1, 8, 8, width))
  module = module.clone(initial=InitialValues(**initial))
  return module.init(jax.random.key(0), z)["params"]


class InitialValuesTest(parameterized.TestCase):
  def assert_uniform(self, values, bound):
    """Checks the range and the deviation of many values."""
    self.assertLessEqual(abs(values).max(), bound)
    self.assertGreater(abs(values).max(), 0.95 * bound)
    np.testing.assert_allclose(values.std(), bound / np.sqrt(3), rtol=0.1)

  def test_the_default_is_flax_s(self):
    encoder = networks.Encoder("cnn", features=8)
    params = params_of(encoder, 3)["Conv_0"]
    same = nn.Conv(4, (4, 4), strides=2, parent=None)
    init = encoder.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    chex.assert_trees_all_equal(params, init["params"]["Conv_0"])
    chex.assert_trees_all_equal_shapes(
      params, same.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))["params"]
    )
    self.assertFalse(params["bias"].any())
    fan_in = 4 * 4 * 3
    np.testing.assert_allclose(params["kernel"].std(), fan_in**-0.5, rtol=0.15)

  @parameterized.parameters(
    networks.Encoder(features=8), networks.Decoder(channels=2, features=8)
  )
  def test_the_switches_are_apart(self, network):
    usual = params_of(network, 8)
    for field in ("kernel", "bias"):
      other = params_of(network, 8, **{field: "pytorch"})
      for path, values in jax.tree_util.tree_leaves_with_path(other):
        before = usual
        for key in path:
          before = before[key.key]
        is_same = bool((values == before).all())
        self.assertEqual(is_same, path[-1].key != field)

  def test_as_in_pytorch_all_is_uniform(self):
    both = {"kernel": "pytorch", "bias": "pytorch"}
    params = params_of(networks.Encoder(features=64), 3, **both)
    for name, fan_in in (("Conv_0", 48), ("Conv_1", 512), ("Conv_2", 576)):
      self.assert_uniform(params[name]["kernel"], fan_in**-0.5)
      self.assertLessEqual(abs(params[name]["bias"]).max(), fan_in**-0.5)
      self.assertGreater(abs(params[name]["bias"]).max(), 0.8 * fan_in**-0.5)
    blocks = params["ResidualBlocks_0"]
    self.assert_uniform(blocks["Conv_0"]["kernel"], 576**-0.5)
    self.assert_uniform(blocks["Conv_1"]["kernel"], 16**-0.5)

  def test_a_transposed_convolution_counts_its_outputs(self):
    both = {"kernel": "pytorch", "bias": "pytorch"}
    params = params_of(networks.TransposedConv(20), 7, **both)
    self.assert_uniform(params["kernel"], (16 * 20) ** -0.5)
    self.assertLessEqual(abs(params["bias"]).max(), (16 * 20) ** -0.5)
    self.assertGreater(abs(params["bias"]).max(), 0.7 * (16 * 20) ** -0.5)

  @parameterized.parameters(
    (InitialValues(kernel="x"), "initial.kernel is 'x'; .*'pytorch'"),
    (InitialValues(bias=0), "initial.bias is 0; .*'zeros', 'pytorch'"),
    ("pytorch", "initial is 'pytorch'; it must be an InitialValues"),
  )
  def test_one_that_cannot_be(self, initial, message):
    model = VQVAE(VectorQuantizer(4, 8), features=8, initial=initial)
    with self.assertRaisesRegex(ValueError, message):
      model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
