"""A config that trains in seconds."""

import ml_collections

from experiments.configs import photo_patches
from experiments.configs import variants


def config(variant: str = "adaptive", **fields) -> ml_collections.ConfigDict:
  tiny = variants.apply(photo_patches.get_config(), variant)
  tiny.data.image_size = 16
  return shrunk(tiny, **fields)


def shrunk(
  tiny: ml_collections.ConfigDict, **fields
) -> ml_collections.ConfigDict:
  tiny.num_steps = 6
  tiny.batch_size = 16
  tiny.log_every = 1
  tiny.eval_every = 4
  tiny.checkpoint_every = 2
  tiny.rate_examples = 40
  tiny.model.features = 8
  if tiny.quantizer.kind == "adaptive":
    tiny.quantizer.capacity = 64
  tiny.update_from_flattened_dict(fields)
  return tiny
