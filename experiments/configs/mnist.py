"""MNIST with the paper's settings.

python -m experiments.main --config=experiments/configs/mnist.py
"""

import ml_collections

from experiments.configs import base
from experiments.configs import variants


def get_config(variant: str = "adaptive") -> ml_collections.ConfigDict:
  """Returns the config of a variant, see `variants`."""
  config = base.get_config("mnist")
  base.add_tfds_fields(config)
  return variants.apply(config, variant)
