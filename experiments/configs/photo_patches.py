"""32 x 32 patches of ten photographs, without a download: the quick start.

python -m experiments.main --config=experiments/configs/photo_patches.py
"""

import ml_collections

from experiments.configs import base
from experiments.configs import variants


def get_config(variant: str = "quick_start") -> ml_collections.ConfigDict:
  """Returns the config of a variant.

  `"quick_start"` is adaptive and learns fast; the others, as in all data sets,
  have the paper's settings.
  """
  config = base.get_config("photo_patches")
  config.data.image_size = 32
  config.data.channels = 3
  if variant != "quick_start":
    return variants.apply(config, variant)
  config.variant = variant
  config.data.random_flip = True
  # A few minutes on two CPU cores: a smaller network, a higher learning rate,
  # codewords that start on the data and follow it faster, and a selector that
  # learns from the start.
  config.num_steps = 700
  config.learning_rate = 8e-3
  config.schedule = "cosine"
  config.warmup_steps = 50
  config.temperature = "constant"
  config.eval_every = 175
  config.checkpoint_every = 175
  config.gradient_gap_every = 0
  config.rate_examples = 1_000
  config.model.network = "cnn"
  config.model.features = 64
  config.quantizer.decay = 0.9
  config.quantizer.codebook_init = "data"
  config.quantizer.revive_below = 0.1
  return config
