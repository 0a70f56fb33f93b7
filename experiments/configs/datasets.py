"""The default config of every data set, by name."""

import ml_collections

from experiments.configs import celeba
from experiments.configs import cifar10
from experiments.configs import diabetic_retinopathy
from experiments.configs import fashion_mnist
from experiments.configs import mnist
from experiments.configs import photo_patches
from experiments.configs import tiny_imagenet
from experiments.errors import UserError

GET_CONFIG = {
  "mnist": mnist.get_config,
  "fashion_mnist": fashion_mnist.get_config,
  "cifar10": cifar10.get_config,
  "tiny_imagenet": tiny_imagenet.get_config,
  "celeba": celeba.get_config,
  "diabetic_retinopathy": diabetic_retinopathy.get_config,
  "photo_patches": photo_patches.get_config,
}


def default_config(
  name: str, variant: str = "adaptive"
) -> ml_collections.ConfigDict:
  """Returns the config of a variant of a data set.

  Args:
    name: of the data set, a key of `GET_CONFIG`.
    variant: see `variants`; `"adaptive"` has the default of every field.

  Raises:
    UserError: if one of them is unknown.
  """
  if name not in GET_CONFIG:
    raise UserError(
      f"unknown data set {name!r}; known are {', '.join(GET_CONFIG)}"
    )
  return GET_CONFIG[name](variant)
