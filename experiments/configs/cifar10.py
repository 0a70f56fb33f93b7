"""CIFAR-10 with the paper's settings.

python -m experiments.main --config=experiments/configs/cifar10.py
"""

import ml_collections

from experiments.configs import base
from experiments.configs import variants


def get_config(variant: str = "adaptive") -> ml_collections.ConfigDict:
  """Returns the config of a variant, see `variants`."""
  config = base.get_config("cifar10")
  base.add_tfds_fields(config)
  config.data.image_size = 32
  config.data.channels = 3
  return variants.apply(config, variant)
