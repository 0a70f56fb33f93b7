"""Small quantizers, and a step of training with one."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from adq_jax import AdaptiveQuantizer
from adq_jax import AttentionChoice
from adq_jax import DistortionChoice
from adq_jax import GradientUpdate
from adq_jax import Placement
from adq_jax import SmoothedEmaUpdate
from adq_jax import VectorQuantizer

_POOL = ((20, 3), (12, 2))
QUANTIZERS = {
  "vector": VectorQuantizer(20, 3),
  "projected": VectorQuantizer(20, 3, features=4, output_kernel=3),
  "gradient": VectorQuantizer(20, 3, features=4, update=GradientUpdate()),
  "smoothed": VectorQuantizer(20, 3, features=4, update=SmoothedEmaUpdate()),
  "placed": VectorQuantizer(20, 3, placement=Placement("data", 0.5)),
  "attention": AdaptiveQuantizer(
    _POOL, features=4, choice=AttentionChoice(entropy_weight=0.1)
  ),
  "distortion": AdaptiveQuantizer(
    _POOL, features=4, choice=DistortionChoice(rate_weight=0.1)
  ),
  "channels": AdaptiveQuantizer(_POOL, features=4, selection_unit="channels"),
}
MASK = jnp.ones((3, 4, 4)).at[1].set(0)  # of whole images
RNGS = {
  "gumbel": jax.random.key(2),
  "codebook": jax.random.key(3),
  "dropout": jax.random.key(4),
}


def bits(tree):
  """Floats as integers: equal to the bit, also -0.0 and NaN."""
  return jax.tree.map(lambda x: np.asarray(x, np.float32).view(np.int32), tree)


def make(quantizer):
  """Points `[3, 4, 4, C]`."""
  width = quantizer.features or 3
  return jax.random.normal(jax.random.key(5), (3, 4, 4, width), jnp.float32)


def make_variables(quantizer, z, keys=None):
  if keys is None:
    keys = {"params": jax.random.key(0), "codebook": jax.random.key(1)}
  return jax.jit(quantizer.init)(keys, z)


def train(quantizer, variables, z, mask=None, weights=None, example_index=None):
  """Returns the gradients of parameters and z, the result, and what is next.

  The loss that has these gradients is the quantizer's and the mean of weights
  times values.
  """
  if weights is None:
    weights = jax.random.normal(jax.random.key(6), z.shape, jnp.float32)

  def loss(params, z):
    result, state = quantizer.apply(
      {**variables, "params": params},
      z,
      train=True,
      mask=mask,
      example_index=example_index,
      mutable=nn.DenyList("params"),
      rngs=RNGS,
    )
    return result.loss + (result.values * weights).mean(), (result, state)

  params = variables.get("params", {})
  gradient, (result, state) = jax.grad(loss, (0, 1), has_aux=True)(params, z)
  return gradient, result, {**variables, **state}
