"""32 x 32 patches of ten photographs, without a download: the quick start.

python -m experiments.main --config=experiments/configs/photo_patches.py
"""

import ml_collections

from experiments.configs import base
from experiments.configs import variants


def get_config(variant: str = "quick_start") -> ml_collections.ConfigDict:
  """Returns the config of a variant.

  `"quick_start"` has a small network and one model for many rates, and learns
  fast; `"adaptive"` has the paper's settings, as in all data sets.
  """
  config = base.get_config("photo_patches")
  config.data.image_size = 32
  config.data.channels = 3
  return variants.apply(config, variant)
