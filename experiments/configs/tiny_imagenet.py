"""Tiny-ImageNet with the paper's settings.

python -m experiments.main --config=experiments/configs/tiny_imagenet.py
"""

import ml_collections

from experiments.configs import base
from experiments.configs import variants


def get_config(variant: str = "adaptive") -> ml_collections.ConfigDict:
  """Returns the config of a variant, see `variants`."""
  config = base.get_config("tiny_imagenet")
  base.add_tfds_fields(config)
  config.batch_size = 24
  config.data.paper_batch_size = 24
  config.data.image_size = 64
  config.data.channels = 3
  return variants.apply(config, variant)
