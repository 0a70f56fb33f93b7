"""The inputs of a step of training: images, random keys, temperature."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from adq_jax import VQVAE
from experiments.data import augment
from experiments.model import rate_weights
from experiments.model import schedules
from experiments.processes.devices import AXIS


def make_preparation(
  config: ml_collections.ConfigDict, model: VQVAE
) -> Callable[..., tuple[jax.Array, dict[str, jax.Array], dict[str, Any]]]:
  """Returns a function that prepares the inputs of a step.

  The function takes the number of steps done and images uint8 `[B, H, W, C]`.
  It returns the images for the model, its rng streams, and more keyword
  arguments of the quantizer: the temperature where the choice is sampled, and
  the price of a bit for each image where the config gives a range.
  """
  temperature = schedules.temperature(config)
  root_key = jax.random.key(config.seed)

  def prepare(step: jax.Array, images: jax.Array):
    # Keys are the same on all devices; randomness of an example comes from its
    # place in the global batch.
    step_key = jax.random.fold_in(root_key, step)
    augment_key, gumbel_key, codebook_key = jax.random.split(step_key, 3)
    batch_size = len(images)
    example_index = jnp.arange(batch_size)
    example_index += batch_size * jax.lax.axis_index(AXIS)
    images = augment.to_float(
      augment.augment(
        augment_key,
        images,
        example_index,
        size=config.data.image_size,
        random_flip=config.data.random_flip,
      )
    )
    arguments = {}
    if model.draws:
      arguments["temperature"] = temperature(step)
    if rate_weights.are_sampled(config):
      arguments["rate_weight"] = rate_weights.sample(
        config, jax.random.fold_in(step_key, 4), example_index, step
      )
    rngs = {
      "gumbel": gumbel_key,
      "codebook": codebook_key,
      # Not of the same split: the three above stay what they were.
      "dropout": jax.random.fold_in(step_key, 3),
    }
    return images, rngs, arguments

  return prepare
