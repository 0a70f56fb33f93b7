from absl.testing import parameterized
import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from adq_jax.models import networks


class TransposedConvTest(parameterized.TestCase):
  @parameterized.parameters((4, 4, 1), (5, 3, 2), (1, 1, 3))
  def test_equals_flax(self, height, width, features):
    x = jax.random.normal(jax.random.key(0), (2, height, width, 6))
    ours = networks.TransposedConv(features)
    variables = ours.init(jax.random.key(1), x)
    variables["params"]["bias"] += 1.0
    reference = nn.ConvTranspose(features, (4, 4), strides=(2, 2))
    chex.assert_trees_all_equal_shapes(
      variables, reference.init(jax.random.key(1), x)
    )

    def loss(module, variables, x):
      return jnp.sum(jnp.sin(module.apply(variables, x)))

    chex.assert_trees_all_close(
      ours.apply(variables, x), reference.apply(variables, x), atol=1e-5
    )
    chex.assert_trees_all_close(
      jax.grad(loss, (1, 2))(ours, variables, x),
      jax.grad(loss, (1, 2))(reference, variables, x),
      atol=1e-5,
    )

  def test_all_platforms_compute_the_same(self):
    # Small whole numbers: every sum is exact, whatever its order.
    x, kernel, cotangents = (
      jax.random.randint(jax.random.key(i), shape, -8, 8).astype(jnp.float32)
      for i, shape in enumerate(
        [(2, 3, 5, 6), (4, 4, 6, 3), (2, 2, 2, 3, 5, 3)]
      )
    )

    def results(form):
      parities, pull_back = jax.vjp(
        lambda *operands: jnp.asarray(form(*operands)), x, kernel
      )
      return parities, pull_back(cotangents)

    chex.assert_trees_all_equal(
      results(networks._by_product), results(networks._by_convolution)
    )


class NetworksTest(parameterized.TestCase):
  @parameterized.parameters(
    ("cnn", 2, jnp.float32),
    ("cnn_resnet", 4, jnp.float32),
    ("cnn_resnet", 8, jnp.bfloat16),
    ("cnn_inception", 4, jnp.bfloat16),
  )
  def test_shapes(self, network, downsampling, dtype):
    fields = {
      "network": network,
      "features": 8,
      "downsampling": downsampling,
      "dtype": dtype,
    }
    images = jnp.ones((2, 16, 24, 3))
    z, variables = networks.Encoder(**fields).init_with_output(
      jax.random.key(0), images
    )
    chex.assert_shape(z, (2, 16 // downsampling, 24 // downsampling, 8))
    chex.assert_type(z, dtype)
    chex.assert_type(jax.tree.leaves(variables), jnp.float32)
    decoder = networks.Decoder(channels=3, **fields)
    decoded, _ = decoder.init_with_output(jax.random.key(0), z)
    chex.assert_shape(decoded, images.shape)
    chex.assert_type(decoded, jnp.float32)
