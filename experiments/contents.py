"""What tables there are, and the variants in their rows."""

from experiments import notation
from experiments import paper
from experiments.configs.variants import fixed_structure

TITLES = {
  1: "Fixed codebooks",
  2: "The best fixed codebook and the adaptive pool",
  3: "Variants of the adaptive pool",
  4: "Beyond the paper",
  5: "What the authors' code does otherwise, one change at a time",
  6: "What each change to the pool is worth",
}
_PAPER_NAMES = {  # of table 3
  "adaptive": "Base",
  "without_ema": "Without EMA",
  "cnn": "CNN",
  "cnn_inception": "CNN+Inception",
}
# The paper has no such table: what lowers the loss, and one codebook trained
# the same way.
_BEYOND = {
  "adaptive": "Adaptive",
  "adaptive_lr_1e-3": "Adaptive, learning rate 1e-3",
  "adaptive_lr_3e-3": "Adaptive, learning rate 3e-3",
  "reference": "As the authors' code",
  "reference_14_bits": "As the authors' code, [64,32] and [128,16]",
  "improved": "Improved",
  "improved_rate_3e-4": "Improved, a bit costs 3e-4",
  "improved_rate_1e-3": "Improved, a bit costs 1e-3",
  "improved_rate_3e-3": "Improved, a bit costs 3e-3",
  "improved_fixed_512x128": "Improved, fixed [512,128]",
  "improved_fixed_2048x32": "Improved, fixed [2048,32]",
  "improved_fixed_8192x32": "Improved, fixed [8192,32]",
  "improved_fixed_16384x8": "Improved, fixed [16384,8]",
  "improved_fixed_131072x8": "Improved, fixed [131072,8]",
}
# The paper lacks this too: its text, each change that training sees, and all.
_REFERENCE = {
  "adaptive": "As the paper's text",
  "reference_selection_unit": "Chosen by channels",
  "reference_selection_logits": "Weights as logits",
  "reference_update_rule": "Smoothed counts stored back",
  "reference_output_kernel": "3x3 projection",
  "reference_decoder_first_convolution": "Decoder without a 3x3 convolution",
  "reference": "As the authors' code",
}
# And this: `improved` without one of its changes each, and what may keep
# attention from settling on one codebook.
_CHANGES = {
  "improved": "Improved",
  "improved_lr_1e-3": "Improved, learning rate 1e-3",
  "improved_constant_lr": "Improved, constant learning rate",
  "improved_normal_init": "Improved, normal codewords, none revived",
  "improved_attention": "Improved, choice by attention",
  "improved_attention_entropy_1e-4": "The same, a bit of entropy earns 1e-4",
  "improved_attention_entropy_1e-3": "The same, a bit of entropy earns 1e-3",
  "improved_attention_entropy_1e-2": "The same, a bit of entropy earns 1e-2",
  "adaptive": "Adaptive",
  "adaptive_entropy_1e-3": "Adaptive, a bit of entropy earns 1e-3",
  "adaptive_constant_temperature": "Adaptive, temperature 1",
}
_OWN_NAMES = {4: _BEYOND, 5: _REFERENCE, 6: _CHANGES}

VARIANTS = {
  table: tuple(rows) for table, rows in (paper.TABLES | _OWN_NAMES).items()
}
"""The variants that each table needs."""


def row_name(table: int, variant: str) -> str:
  """Returns what a row of a table is called, as the paper has it."""
  if table in _OWN_NAMES:
    return _OWN_NAMES[table][variant]
  structure = fixed_structure(variant)
  if structure:
    return notation.structure_name(structure)
  if table != 3:
    return "Adaptive codebook"
  for letter, prefix in (("W", "w_"), ("alpha", "alpha_"), ("beta", "beta_")):
    if variant.startswith(prefix):
      return f"{letter} = {variant.removeprefix(prefix)}"
  return _PAPER_NAMES[variant]
