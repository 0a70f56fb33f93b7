from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adq_jax import AdaptiveQuantizer
from adq_jax import VectorQuantizer
from adq_jax import VQVAE

KEYS = {"params": jax.random.key(0), "codebook": jax.random.key(1)}


def make(adaptive=True, channels=3, size=(16, 8), update="ema", **kwargs):
  if adaptive:
    structures = ((16, 4), (32, 2), (64, 1))
    quantizer = AdaptiveQuantizer(structures, 8, update=update)
  else:
    quantizer = VectorQuantizer(32, 4, features=8, update=update)
  model = VQVAE(quantizer=quantizer, channels=channels, features=8, **kwargs)
  images = jax.random.uniform(
    jax.random.key(2), (4, *size, channels), minval=-0.5, maxval=0.5
  )
  return model, jax.jit(model.init)(KEYS, images), images


class VQVAETest(parameterized.TestCase):
  @parameterized.parameters(
    (True, "cnn_resnet", jnp.float32),
    (True, "cnn_resnet", jnp.bfloat16),
    (False, "cnn", jnp.bfloat16),
    (False, "cnn_inception", jnp.float32),
  )
  def test_decoded_codes_are_the_forward_pass(self, adaptive, network, dtype):
    model, variables, images = make(adaptive, network=network, dtype=dtype)
    result = model.apply(variables, images)
    codes = model.apply(variables, images, method="encode")
    chex.assert_trees_all_equal(codes, result.quantized.codes)
    decoded = model.apply(variables, codes, method="decode")
    chex.assert_trees_all_equal(decoded, result.images)

  @parameterized.product(adaptive=(True, False))
  def test_jitted_codes_and_images_agree(self, adaptive):
    model, variables, images = make(adaptive)
    result = jax.jit(model.apply)(variables, images)
    encode = jax.jit(lambda v, x: model.apply(v, x, method="encode"))
    decode = jax.jit(lambda v, c: model.apply(v, c, method="decode"))
    codes = encode(variables, images)
    chex.assert_trees_all_equal(codes, result.quantized.codes)
    chex.assert_trees_all_close(
      decode(variables, codes), result.images, rtol=1e-5, atol=1e-6
    )

  @parameterized.parameters(
    (1, 2, (8, 6)), (3, 4, (24, 8)), (5, 8, (8, 16)), (2, 16, (16, 32))
  )
  def test_any_image_that_divides(self, channels, downsampling, size):
    model, variables, images = make(
      channels=channels, downsampling=downsampling, size=size
    )
    result = jax.eval_shape(model.apply, variables, images)
    chex.assert_shape(result.images, images.shape)
    grid = (4, size[0] // downsampling, size[1] // downsampling)
    chex.assert_shape(result.quantized.codes.book, grid)

  @parameterized.product(adaptive=(True, False), update=("ema", "gradient"))
  def test_loss_is_that_of_the_paper(self, adaptive, update):
    model, variables, images = make(
      adaptive, update=update, quantization_weight=0.3
    )
    result = model.apply(variables, images)
    squares = np.square(np.asarray(images) - np.asarray(result.images))
    chex.assert_trees_all_close(
      result.squared_error, squares.mean(axis=(1, 2, 3)), rtol=1e-5
    )
    # Eqs. 3 and 4: commitment weighs alpha = 0.25, the codebook term 1, and
    # reaches a parameter under the gradient rule alone.
    errors = np.mean(result.quantized.metrics["quantization_error"])
    alpha = 0.25 if update == "ema" else 1.25
    chex.assert_trees_all_close(
      result.loss, squares.mean() + 0.3 * alpha * errors, rtol=1e-5
    )

  def test_a_log_of_the_error_has_its_gradient(self):
    model, variables, images = make(
      reconstruction_loss="log_mse", quantization_weight=0.0
    )
    plain = model.clone(reconstruction_loss="mse")

    @jax.jit
    def losses(images):
      return [
        jax.value_and_grad(lambda x, m=m: m.apply(variables, x).loss)(images)
        for m in (model, plain)
      ]

    (loss, gradient), (mse, of_mse) = losses(images)
    chex.assert_trees_all_close(loss, 0.5 * jnp.log(mse), rtol=1e-5)
    chex.assert_trees_all_close(gradient, of_mse / (2 * mse), rtol=1e-4)
    with self.assertRaisesRegex(ValueError, "reconstruction_loss is 'l1'"):
      model.clone(reconstruction_loss="l1").apply(variables, images)

  def test_a_mask_leaves_padding_out(self):
    model, variables, images = make()
    mask = jnp.array([1.0, 1.0, 1.0, 0.0])
    apply = jax.jit(model.apply)
    expected = apply(variables, images[:3])
    result = apply(variables, images.at[3].set(jnp.nan), mask=mask)
    chex.assert_trees_all_close(
      (result.mse, result.loss, result.quantized.metrics),
      (expected.mse, expected.loss, expected.quantized.metrics),
      rtol=1e-5,
    )

  def test_a_nan_image_gives_a_nan_loss_and_codes_in_range(self):
    model, variables, images = make()
    result = jax.jit(model.apply)(variables, images.at[0].set(jnp.nan))
    self.assertTrue(jnp.isnan(result.loss))
    self.assertTrue((result.quantized.codes.index[0] == 0).all())

  @pytest.mark.slow
  def test_training_reaches_every_parameter(self):
    model, variables, images = make()

    def loss(params):
      result, _ = model.apply(
        {**variables, "params": params},
        images,
        train=True,
        temperature=2.0,
        mutable=["codebook"],
        rngs={"gumbel": jax.random.key(0)},
      )
      return result.loss

    gradient = jax.grad(loss)(variables["params"])
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
      # A bias of all keys shifts no softmax.
      if "key" not in str(path) or "kernel" in str(path):
        self.assertGreater(jnp.abs(leaf).max(), 0, path)

  def test_errors(self):
    model, variables, images = make()
    for bad, message in (
      (images[..., :1], "last axis must be 3, the model's channels"),
      (images[0], "images .* 4 axes"),
      (images[:, :6], "sides must be multiples of 4"),
      (jnp.zeros((1, 8, 8, 3), jnp.uint8), "images has dtype uint8"),
    ):
      with self.assertRaisesRegex(ValueError, message):
        model.apply(variables, bad)
      with self.assertRaisesRegex(ValueError, message):
        model.apply(variables, bad, method="encode")
    with self.assertRaisesRegex(ValueError, r"mask has shape \(2,\)"):
      model.apply(variables, images, mask=jnp.ones(2))
    for fields, message in (
      ({"network": "vit"}, "network is 'vit'"),
      ({"downsampling": 3}, "downsampling is 3"),
      ({"downsampling": 1}, "downsampling is 1"),
      ({"channels": 0}, "channels is 0"),
    ):
      with self.assertRaisesRegex(ValueError, message):
        make(**fields)
