"""Training in bfloat16 stays finite, whatever a variant is made of."""

from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import data
from experiments.configs import base
from experiments.configs import variants
from experiments.model import build
from experiments.model import check
from experiments.model.state import create_state
from experiments.model.step import make_train_step
from experiments.processes.devices import AXIS
from experiments.processes.devices import replicate
from experiments.processes.devices import unreplicate
from tests.support import tiny

_STEPS = 50
# Of those that differ in one number alone, the one farthest from the others; of
# those that lead from `adaptive` to `reference` or `improved` in one thing
# each, the ends.
_NAMED = (
  "adaptive",
  "alpha_10",
  "beta_5",
  "cnn",
  "cnn_inception",
  "improved",
  "improved_attention",
  "priced_pool",
  "reference",
  "reference_14_bits_flax_init",
  "w_32768",
  "without_ema",
)
_FIXED = ("fixed_64x1", "fixed_128x32")


@pytest.mark.slow
class Bfloat16Test(parameterized.TestCase):
  @parameterized.parameters(*_NAMED, *_FIXED)
  def test_stays_finite(self, variant):
    config = tiny.config(variant, dtype="bfloat16", num_steps=_STEPS)
    config.batch_size = 8
    if variant in _NAMED:
      # A 1,024th of the variant's own, which for the paper's pool is 64.
      of_variant = variants.apply(base.get_config("photo_patches"), variant)
      config.quantizer.placement = of_variant.quantizer.placement
      if not of_variant.quantizer.structures:
        config.quantizer.capacity = of_variant.quantizer.capacity // 1024
    check.check(config)
    model = build.create_model(config, AXIS)
    devices = jax.local_devices()[:1]
    state = replicate(create_state(config, model), devices)
    # Together, so that the host starts one computation.
    images = data.load(config)["train"].images
    indices = np.random.default_rng(0).integers(
      images.shape[0], size=(_STEPS, 1, config.batch_size)
    )
    batches = [images[some.ravel()][None] for some in indices]
    state, metrics = make_train_step(config, model, devices)(state, *batches)
    self.assertEqual(int(unreplicate(state.step)), _STEPS)
    # Nothing was left out for not being finite.
    self.assertFalse(np.asarray(metrics["is_nonfinite"]).any())
    chex.assert_tree_all_finite((state, metrics))
    # The networks computed in it; what must be float32 was.
    encode = jax.eval_shape(
      lambda x: model.apply(
        unreplicate(state).variables, x, method=lambda m, x: m.encoder(x)
      ),
      jnp.zeros((1, 16, 16, 3)),
    )
    self.assertEqual(encode.dtype, jnp.bfloat16)
    for leaf in jax.tree.leaves(state.codebook):
      # Numbers in float32; revival is a flag, and counts of streams integers.
      self.assertIn(leaf.dtype, (jnp.float32, jnp.bool_, jnp.int32))
