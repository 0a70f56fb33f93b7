"""2,750 fundus images with the paper's settings.

python -m experiments.main --config=experiments/configs/diabetic_retinopathy.py
"""

import ml_collections

from experiments.configs import base
from experiments.configs import variants


def get_config(variant: str = "adaptive") -> ml_collections.ConfigDict:
  """Returns the config of a variant, see `variants`."""
  config = base.get_config("diabetic_retinopathy")
  base.add_tfds_fields(config)
  config.batch_size = 1
  config.data.paper_batch_size = 1
  config.data.image_size = 256  # as they are, and in the paper
  config.data.channels = 3
  # Images are resized to it, for image_size to be cropped from; 0: image_size.
  config.data.resize_to = 0
  return variants.apply(config, variant)
