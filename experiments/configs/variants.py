"""Named variants of a config: the cells of the paper's tables, and more.

`--config=FILE:VARIANT` names one; `--config.FIELD=VALUE` changes it further.
"""

import math
import re
from typing import Any

import ml_collections

from experiments.errors import UserError

# What the authors' code does where it differs from the paper's text.
REFERENCE = {
  "gradient_gap": "mean_absolute",
  "model.decoder_first_convolution": False,
  "quantizer.draw_in_evaluation": True,
  "quantizer.output_kernel": 3,
  "quantizer.selection_logits": "weights",
  "quantizer.selection_unit": "channels",
  "quantizer.update_rule": "smoothed_ema",
}

# Changed fields, by name of the variant.
_VARIANTS: dict[str, dict[str, Any]] = {
  "adaptive": {},
  # Table 3.
  "w_32768": {"quantizer.capacity": 32_768},
  "w_16384": {"quantizer.capacity": 16_384},
  "w_8192": {"quantizer.capacity": 8_192},
  "w_4096": {"quantizer.capacity": 4_096},
  "without_ema": {"quantizer.update_rule": "gradient"},
  "alpha_0.5": {"quantizer.commitment_cost": 0.5},
  "alpha_0.75": {"quantizer.commitment_cost": 0.75},
  "alpha_1": {"quantizer.commitment_cost": 1.0},
  "alpha_5": {"quantizer.commitment_cost": 5.0},
  "alpha_10": {"quantizer.commitment_cost": 10.0},
  "beta_0.01": {"model.quantization_weight": 0.01},
  "beta_0.2": {"model.quantization_weight": 0.2},
  "beta_5": {"model.quantization_weight": 5.0},
  "cnn": {"model.network": "cnn"},
  "cnn_inception": {"model.network": "cnn_inception"},
  # Not in the paper.
  "reference": REFERENCE,
}

NAMES = tuple(_VARIANTS)
KNOWN = (
  f"{', '.join(NAMES)}, fixed_NxD (one codebook of N codewords of width D,"
  " such as fixed_512x128)"
)


def fixed_structure(variant: str) -> tuple[int, int] | None:
  """Returns (N, D) of `fixed_NxD`, None of another variant."""
  match = re.fullmatch(r"fixed_(\d+)x(\d+)", variant)
  return (int(match[1]), int(match[2])) if match else None


def apply(
  config: ml_collections.ConfigDict, variant: str
) -> ml_collections.ConfigDict:
  """Makes a data set's config that of a variant; returns it.

  Raises:
    UserError: if the variant is unknown.
  """
  config.variant = variant
  structure = fixed_structure(variant)
  if structure:
    config.quantizer.kind = "fixed"
    config.quantizer.structures = (structure,)
    config.quantizer.capacity = math.prod(structure)
  elif variant in _VARIANTS:
    config.update_from_flattened_dict(_VARIANTS[variant])
  else:
    raise UserError(
      f"unknown variant {variant!r} of {config.name}; known are {KNOWN}"
    )
  return config
