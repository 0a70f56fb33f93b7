"""32 x 32 patches of ten photographs, without a download: the quick start.

python -m experiments.main --config=experiments/configs/photo_patches.py
"""

import ml_collections

from experiments.configs import base


def get_config(variant: str = "adaptive") -> ml_collections.ConfigDict:
  """Returns the config of a variant, see `base.get_config`."""
  config = base.get_config("photo_patches", variant)
  config.data.image_size = 32
  config.data.channels = 3
  config.data.random_flip = True
  return config
