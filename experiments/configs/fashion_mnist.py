"""Fashion-MNIST with the paper's settings.

    python -m experiments.main --config=experiments/configs/fashion_mnist.py

downloads it, or takes the four archives from `--config.data.manual_dir=DIR`.
"""

import ml_collections

from experiments.configs import base


def get_config(variant: str = "adaptive") -> ml_collections.ConfigDict:
  """Returns the config of a variant, see `base.get_config`."""
  config = base.get_config("fashion_mnist", variant)
  # A directory with the four .gz archives; "": download them.
  config.data.manual_dir = ""
  # Where TFDS keeps what it prepared; "": its default, ~/tensorflow_datasets.
  config.data.data_dir = ""
  return config
