"""What a bit costs: in training, in evaluation, and along a curve.

Training samples the price for each image, so that one model learns to serve all
of the config's range.
"""

import math

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

_ON_CURVE = 9  # prices at which a model is evaluated


def are_sampled(config: ml_collections.ConfigDict) -> bool:
  """Returns whether training samples prices."""
  return config.rate_weight.highest > 0


def sample(
  config: ml_collections.ConfigDict,
  key: jax.Array,
  example_index: jax.Array,
  steps_done: jax.Array,
) -> jax.Array:
  """Returns the price for each image of a training batch, float32 `[B]`.

  Its logarithm is uniform.  In the first steps it rises from 0, as nothing is
  worth its bits before the model has learned something.

  Args:
    config: of the experiment, with a range of prices.
    key: a PRNG key, the same for all images.
    example_index: what tells images apart, int `[B]`.
    steps_done: int32 `[]`.
  """
  keys = jax.vmap(jax.random.fold_in, (None, 0))(key, example_index)
  uniform = jax.vmap(lambda key: jax.random.uniform(key, (), jnp.float32))
  low, high = map(math.log, _range(config))
  prices = jnp.exp(low + (high - low) * uniform(keys))
  warmup = config.rate_weight.warmup_steps
  return prices * jnp.minimum(steps_done / warmup, 1.0) if warmup else prices


def middle(config: ml_collections.ConfigDict) -> float | None:
  """Returns the price at which a model is judged while it trains.

  None where training samples no prices: what the quantizer's field says.
  """
  return math.sqrt(math.prod(_range(config))) if are_sampled(config) else None


def on_curve(config: ml_collections.ConfigDict) -> np.ndarray:
  """Returns the prices of the rate-distortion curve, ascending, float64 `[K]`.

  They span the range that training samples from.
  """
  return np.geomspace(*_range(config), _ON_CURVE)


def _range(config: ml_collections.ConfigDict) -> tuple[float, float]:
  return config.rate_weight.lowest, config.rate_weight.highest
