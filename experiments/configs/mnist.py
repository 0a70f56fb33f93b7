"""MNIST with the paper's settings.

python -m experiments.main --config=experiments/configs/mnist.py
"""

import ml_collections

from experiments.configs import base


def get_config(variant: str = "adaptive") -> ml_collections.ConfigDict:
  """Returns the config of a variant, see `base.get_config`."""
  config = base.get_config("mnist", variant)
  base.add_tfds_fields(config)
  return config
