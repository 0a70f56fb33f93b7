"""Data sets, by name."""

import ml_collections

from experiments.data import celeba
from experiments.data import cifar10
from experiments.data import diabetic_retinopathy
from experiments.data import fashion_mnist
from experiments.data import mnist
from experiments.data import photo_patches
from experiments.data import tiny_imagenet
from experiments.data.split import Split
from experiments.errors import UserError

LOADERS = {
  "mnist": mnist.load,
  "fashion_mnist": fashion_mnist.load,
  "cifar10": cifar10.load,
  "tiny_imagenet": tiny_imagenet.load,
  "celeba": celeba.load,
  "diabetic_retinopathy": diabetic_retinopathy.load,
  "photo_patches": photo_patches.load,
}


def load(config: ml_collections.ConfigDict) -> dict[str, Split]:
  """Returns the splits "train" and "validation" of an experiment's config.

  Raises:
    UserError: if data are missing or damaged, or the config's image size or
      channels do not go with them.
  """
  splits = LOADERS[config.name](config.data)
  for split in splits.values():
    _, height, width, channels = split.images.shape
    size = config.data.image_size
    if size > min(height, width):
      raise UserError(
        f"config.data.image_size is {size}; images of {config.name} are"
        f" {height} x {width}, and it must be at most that"
      )
    if channels != config.data.channels:
      raise UserError(
        f"config.data.channels is {config.data.channels}; images of"
        f" {config.name} have {channels}"
      )
  return splits
