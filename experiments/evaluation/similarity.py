"""Structural similarity of images and their reconstructions."""

from typing import Any

import ml_collections
import numpy as np
from skimage.metrics import structural_similarity

from experiments.data import augment
from experiments.data.split import Split
from experiments.evaluation.evaluator import Evaluator

_WINDOW = 7  # pixels on a side, the default of scikit-image
_MOST_IMAGES = 10_000  # 3 s on a core for 28 x 28 grey, 9 for 32 x 32 RGB
_PART = 1_000  # images in memory at once


def mean_ssim(
  config: ml_collections.ConfigDict,
  evaluator: Evaluator,
  variables: Any,
  split: Split,
) -> float:
  """Returns the mean SSIM of images and their reconstructions.

  It is that of `structural_similarity`, over the channels and over the images;
  of a split of more than 10,000 images, as many that are evenly spread.

  Args:
    config: the config of the run.
    evaluator: the evaluator of its model.
    variables: those of the model, replicated.
    split: the images; larger ones are cut to their centre.
  """
  shown = split.subsample(_MOST_IMAGES)
  found = []
  for start in range(0, len(shown), _PART):
    part = shown.select(np.arange(start, min(start + _PART, len(shown))))
    reconstructions, _ = evaluator.reconstruct(variables, part)
    originals = augment.crop_centre(
      part.images[np.arange(len(part))], config.data.image_size
    )
    found.append(ssim(originals, reconstructions))
  return float(np.concatenate(found).mean(dtype=np.float64))


def ssim(originals: np.ndarray, reconstructions: np.ndarray) -> np.ndarray:
  """Returns the SSIM of each pair of images.

  SSIM is 1 for equal images and smaller for others, -1 at least.  It compares
  windows of 7 x 7 pixels, or for smaller images of the largest odd side that
  fits.

  Args:
    originals: uint8 `[n, H, W, C]`, H and W at least 3.
    reconstructions: about in [-0.5, 0.5], float `[n, H, W, C]`; they are
      neither clipped nor rounded, as for PSNR.

  Returns:
    float64 `[n]`.
  """
  height, width = originals.shape[1:3]
  side = min(_WINDOW, height, width)
  values = [
    structural_similarity(
      original / 255,
      # It compares brightness too, so black must be 0.
      reconstruction + 0.5,
      win_size=side - 1 + side % 2,
      data_range=1,
      channel_axis=-1,
    )
    for original, reconstruction in zip(
      originals, reconstructions.astype(np.float64), strict=True
    )
  ]
  return np.array(values)
