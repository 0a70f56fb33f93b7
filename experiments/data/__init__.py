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
    UserError: if data are missing or damaged, or the config does not go with
      them.
  """
  return LOADERS[config.name](config.data)
