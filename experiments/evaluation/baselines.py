"""Two models without codes, to compare a quantizer with."""

from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from adq_jax import psnr
from experiments.data import augment
from experiments.data import pipeline
from experiments.data.split import Split
from experiments.evaluation.figures_of_merit import per_source_psnr


def baselines(
  config: ml_collections.ConfigDict, split: Split
) -> dict[str, Any]:
  """Returns the PSNR in dB that two models without codes reach on a split.

  `resize` shrinks images by the model's downsampling factor and enlarges them
  again, bicubically; `mean_color` paints an image with its mean.
  """
  size, factor = config.data.image_size, config.model.downsampling

  @jax.jit
  def squared_errors(images: jax.Array) -> dict[str, jax.Array]:
    images = augment.to_float(images)
    n, height, width, channels = images.shape
    small = jax.image.resize(
      images, (n, height // factor, width // factor, channels), "cubic"
    )
    guesses = {
      "resize": jax.image.resize(small, images.shape, "cubic"),
      "mean_color": images.mean(axis=(1, 2), keepdims=True),
    }
    return {
      name: jnp.square(guess - images).mean(axis=(1, 2, 3))
      for name, guess in guesses.items()
    }

  errors = []
  batches = pipeline.EvalBatches(split.images, config.batch_size)
  for images, _, mask in pipeline.iterate(batches):
    batch = squared_errors(augment.crop_centre(images, size))
    errors.append({name: np.asarray(e)[mask > 0] for name, e in batch.items()})
  result = {}
  for name in errors[0]:
    error = np.concatenate([batch[name] for batch in errors])
    result[name] = {"psnr": float(psnr(error.mean(dtype=np.float64)))}
    if split.source_names:
      result[name]["psnr_per_source"] = per_source_psnr(error, split)
  return result
