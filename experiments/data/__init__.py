"""Data sets, by name."""

import ml_collections

from experiments.data import fashion_mnist
from experiments.data import photo_patches
from experiments.data.split import Split

LOADERS = {
  "fashion_mnist": fashion_mnist.load,
  "photo_patches": photo_patches.load,
}


def load(config: ml_collections.ConfigDict) -> dict[str, Split]:
  """Returns the splits "train" and "validation" of an experiment's config.

  Raises:
    UserError: if data are missing or damaged.
  """
  return LOADERS[config.name](config.data)
