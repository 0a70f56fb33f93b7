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

# What reaches a lower loss in as many updates; results/README.md has what each
# change is worth.
IMPROVED = {
  "learning_rate": 3e-3,
  "schedule": "cosine",
  "warmup_steps": 50,
  "temperature": "constant",  # matters to `improved_attention` alone
  "quantizer.codebook_init": "data",
  "quantizer.revive_below": 0.1,
  "quantizer.selection": "distortion",
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
  # It with a pool of 6 and 7 bits, and at most one for the choice: as many as
  # the paper's best fixed codebook takes.
  "reference_14_bits": REFERENCE
  | {
    "quantizer.structures": ((64, 32), (128, 16)),
    "quantizer.capacity": 2**11,
  },
  # What each of its changes does alone: reference_selection_unit, ...
  **{
    f"reference_{field.rpartition('.')[2]}": {field: value}
    for field, value in REFERENCE.items()
  },
  # The selector's gradient is not divided by up to num_steps.
  "adaptive_constant_temperature": {"temperature": "constant"},
  "improved": IMPROVED,
  # It without one of its changes each.
  "improved_attention": IMPROVED | {"quantizer.selection": "attention"},
  "improved_normal_init": IMPROVED
  | {"quantizer.codebook_init": "normal", "quantizer.revive_below": 0.0},
  "improved_constant_lr": IMPROVED
  | {"schedule": "constant", "warmup_steps": 0},
}

_NUMBER = r"(\d+(?:\.\d+)?(?:e-?\d+)?)"
_FIXED = re.compile(r"(improved_)?fixed_(\d+)x(\d+)")
_RATE = re.compile(rf"improved_rate_{_NUMBER}")
_CAPACITY = re.compile(r"improved_w_(\d+)")
_ENTROPY = re.compile(rf"(adaptive|improved_attention)_entropy_{_NUMBER}")
_LEARNING_RATE = re.compile(rf"(adaptive|improved)_lr_{_NUMBER}")

NAMES = tuple(_VARIANTS)
KNOWN = (
  f"{', '.join(NAMES)}, fixed_NxD (one codebook of N codewords of width D,"
  " such as fixed_512x128) and improved_fixed_NxD, improved_rate_X (what a bit"
  " costs), improved_w_X (a pool of capacity X), adaptive_entropy_X and"
  " improved_attention_entropy_X (what a bit of the choice's entropy earns),"
  " adaptive_lr_X and improved_lr_X (learning rates)"
)


def fixed_structure(variant: str) -> tuple[int, int] | None:
  """Returns (N, D) of a variant with one codebook, None of another."""
  match = _FIXED.fullmatch(variant)
  return (int(match[2]), int(match[3])) if match else None


def apply(
  config: ml_collections.ConfigDict, variant: str
) -> ml_collections.ConfigDict:
  """Makes a data set's config that of a variant; returns it.

  Raises:
    UserError: if the variant is unknown.
  """
  config.variant = variant
  config.update_from_flattened_dict(_changes(config.name, variant))
  return config


def _changes(name: str, variant: str) -> dict[str, Any]:
  if variant in _VARIANTS:
    return _VARIANTS[variant]
  if match := _FIXED.fullmatch(variant):
    structure = fixed_structure(variant)
    return (IMPROVED if match[1] else {}) | {
      "quantizer.kind": "fixed",
      "quantizer.structures": (structure,),
      "quantizer.capacity": math.prod(structure),
    }
  if match := _RATE.fullmatch(variant):
    return IMPROVED | {"quantizer.rate_weight": float(match[1])}
  if match := _CAPACITY.fullmatch(variant):
    return IMPROVED | {"quantizer.capacity": int(match[1])}
  if match := _ENTROPY.fullmatch(variant):
    changes = {"quantizer.entropy_weight": float(match[2])}
    return _VARIANTS[match[1]] | changes
  if match := _LEARNING_RATE.fullmatch(variant):
    return _VARIANTS[match[1]] | {"learning_rate": float(match[2])}
  raise UserError(f"unknown variant {variant!r} of {name}; known are {KNOWN}")
