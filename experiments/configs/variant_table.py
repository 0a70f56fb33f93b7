"""What variants there are: the cells of the paper's tables, and more.

What a variant is called, what it belongs to and what it changes is here, and is
nowhere else read from its name.
"""

from collections.abc import Callable
import dataclasses
import functools
from typing import Any

from experiments.notation import structure_name

GROUPS = {
  "adaptive": "The paper's pool of eight codebooks",
  "fixed": "One codebook",
  "fixed_changed": "One codebook with changes, not in the paper",
  "table_3": "The pool with one change, of the paper's table 3",
  "reference": "The pool as the authors' code has it",
  "adaptive_changed": "The pool with one change, not in the paper",
  "improved": "A pool that reaches a lower loss in as many updates",
  "improved_fixed": "One codebook, improved in the same ways",
  "improved_changed": "The improved pool with one change",
  "priced": "One model for a range of rates",
  "quick_start": "A small network that learns fast",
}
"""What variants belong to, and how a list of them is headed."""


@dataclasses.dataclass(frozen=True)
class Variant:
  """A way to train on any data set.

  Attributes:
    title: what a table's row or a list calls it.
    group: a key of `GROUPS`.
    changes: values by field, such as "quantizer.capacity"; the others have
      their defaults.
    label: what a figure with little room calls it; "": its name.
    about: what a list says of it; "": its title.
    dataset: the only data set that has it; "": all have.
  """

  title: str
  group: str
  changes: dict[str, Any] = dataclasses.field(default_factory=dict)
  label: str = ""
  about: str = ""
  dataset: str = ""


_PYTORCH_INIT_FIXED = {
  "model.initial.kernel": "pytorch",
  "model.initial.bias": "pytorch",
  "quantizer.projection_init": "pytorch",
}
_PYTORCH_INIT = _PYTORCH_INIT_FIXED | {
  "quantizer.choice.input_init": "pytorch",
}

# What the authors' code does where it differs from the paper's text.  Of a
# codebook it does what the code does that they name as their source, Zalando
# Research's VQ-VAE.
_REFERENCE_FIXED = {
  "gradient_gap": "mean_absolute",
  "model.decoder_first_convolution": False,
  "quantizer.output_kernel": 3,
  "quantizer.update": "smoothed_ema",
}
# All but the initial values.
_REFERENCE_FLAX_INIT = _REFERENCE_FIXED | {
  "sampling.draw_in_evaluation": True,
  "quantizer.choice.logits": "weights",
  "quantizer.selection_unit": "channels",
}
REFERENCE = _REFERENCE_FLAX_INIT | _PYTORCH_INIT
_POOL_OF_14_BITS = {
  "quantizer.structures": ((64, 32), (128, 16)),
  "quantizer.capacity": 2**11,
}

# What reaches a lower loss in as many updates; results/1000_updates.md has what
# each change is worth.
_IMPROVED_TRAINING = {
  "learning_rate": 3e-3,
  "schedule": "cosine",
  "warmup_steps": 50,
  # Matters to `improved_attention` alone.
  "sampling.temperature": "constant",
  "quantizer.placement.init": "data",
  "quantizer.placement.revive_below": 0.1,
}
IMPROVED = _IMPROVED_TRAINING | {"quantizer.choice": "distortion"}

# One model for every rate: points take the codewords, and the stages, that pay
# for their bits, at a price that is sampled for each image.
_PRICED = _IMPROVED_TRAINING | {
  "quantizer.price": "coded",
  "quantizer.placement.revive_updates": 2_500,
  "rate_weight.lowest": 3e-5,
  "rate_weight.highest": 5e-3,
  "rate_weight.warmup_steps": 300,
}

# A few minutes on two CPU cores: a smaller network, a higher learning rate, and
# codewords that start on the data and follow it faster.
_QUICK = {
  "learning_rate": 8e-3,
  "schedule": "cosine",
  "warmup_steps": 50,
  "gradient_gap_every": 0,
  "rate_examples": 1_000,
  "data.random_flip": True,
  "model.network": "cnn",
  "model.features": 64,
  "quantizer.update.decay": 0.9,
  "quantizer.placement.init": "data",
  "quantizer.placement.revive_below": 0.1,
}
_QUICK_START = _QUICK | {
  "num_steps": 900,
  "eval_every": 225,
  "checkpoint_every": 225,
  "quantizer.kind": "residual",
  "quantizer.num_stages": 3,
  "quantizer.codebook_size": 256,
  "quantizer.embedding_dim": 32,
  "quantizer.committed": "last",
  "quantizer.price": "coded",
  "quantizer.placement.revive_updates": 450,
  "rate_weight.lowest": 2e-5,
  "rate_weight.highest": 2e-3,
  "rate_weight.warmup_steps": 100,
}
# The paper's pool in the same way, with a selector that learns from the start.
_QUICK_START_ATTENTION = _QUICK | {
  "num_steps": 700,
  "eval_every": 175,
  "checkpoint_every": 175,
  "sampling.temperature": "constant",
}


def _of_table_3(title: str, field: str, value: Any) -> Variant:
  return Variant(title, "table_3", {field: value})


def _as_reference(title: str, field: str) -> Variant:
  """What one of the reference's changes does alone."""
  return Variant(title, "reference", {field: REFERENCE[field]})


VARIANTS: dict[str, Variant] = {
  "adaptive": Variant("Adaptive", "adaptive", about="The paper's settings"),
  "quick_start": Variant(
    "Quick start",
    "quick_start",
    _QUICK_START,
    about="The default: a small network that learns fast, for many rates",
    dataset="photo_patches",
  ),
  "quick_start_attention": Variant(
    "Quick start, choice by attention",
    "quick_start",
    _QUICK_START_ATTENTION,
    about="The paper's pool, trained as fast",
    dataset="photo_patches",
  ),
  "w_32768": _of_table_3("W = 32768", "quantizer.capacity", 32_768),
  "w_16384": _of_table_3("W = 16384", "quantizer.capacity", 16_384),
  "w_8192": _of_table_3("W = 8192", "quantizer.capacity", 8_192),
  "w_4096": _of_table_3("W = 4096", "quantizer.capacity", 4_096),
  "without_ema": _of_table_3("Without EMA", "quantizer.update", "gradient"),
  "alpha_0.5": _of_table_3("alpha = 0.5", "quantizer.commitment_cost", 0.5),
  "alpha_0.75": _of_table_3("alpha = 0.75", "quantizer.commitment_cost", 0.75),
  "alpha_1": _of_table_3("alpha = 1", "quantizer.commitment_cost", 1.0),
  "alpha_5": _of_table_3("alpha = 5", "quantizer.commitment_cost", 5.0),
  "alpha_10": _of_table_3("alpha = 10", "quantizer.commitment_cost", 10.0),
  "beta_0.01": _of_table_3("beta = 0.01", "model.quantization_weight", 0.01),
  "beta_0.2": _of_table_3("beta = 0.2", "model.quantization_weight", 0.2),
  "beta_5": _of_table_3("beta = 5", "model.quantization_weight", 5.0),
  "cnn": _of_table_3("CNN", "model.network", "cnn"),
  "cnn_inception": _of_table_3(
    "CNN+Inception", "model.network", "cnn_inception"
  ),
  "reference": Variant("As the authors' code", "reference", REFERENCE),
  # It with a pool of 6 and 7 bits, and at most one for the choice: as many as
  # the paper's best fixed codebook takes.
  "reference_14_bits": Variant(
    "As the authors' code, [64,32] and [128,16]",
    "reference",
    REFERENCE | _POOL_OF_14_BITS,
  ),
  "reference_flax_init": Variant(
    "As the authors' code, Flax's initial values",
    "reference",
    _REFERENCE_FLAX_INIT,
    label="flax_init",
  ),
  "reference_14_bits_flax_init": Variant(
    "As the authors' code, [64,32] and [128,16], Flax's initial values",
    "reference",
    _REFERENCE_FLAX_INIT | _POOL_OF_14_BITS,
    label="14_bits_flax_init",
  ),
  "reference_kernels": _as_reference(
    "PyTorch's initial kernels", "model.initial.kernel"
  ),
  "reference_biases": _as_reference(
    "PyTorch's initial biases", "model.initial.bias"
  ),
  "reference_projections": _as_reference(
    "PyTorch's initial projections", "quantizer.projection_init"
  ),
  "reference_attention": _as_reference(
    "PyTorch's initial attention", "quantizer.choice.input_init"
  ),
  "pytorch_init": Variant(
    "PyTorch's initial values",
    "adaptive_changed",
    _PYTORCH_INIT,
  ),
  "reference_gradient_gap": _as_reference(
    "Mean absolute gradient gap", "gradient_gap"
  ),
  "reference_decoder_first_convolution": _as_reference(
    "Decoder without a 3x3 convolution", "model.decoder_first_convolution"
  ),
  "reference_draw_in_evaluation": _as_reference(
    "Drawn in evaluation too", "sampling.draw_in_evaluation"
  ),
  "reference_output_kernel": _as_reference(
    "3x3 projection", "quantizer.output_kernel"
  ),
  "reference_selection_logits": _as_reference(
    "Weights as logits", "quantizer.choice.logits"
  ),
  "reference_selection_unit": _as_reference(
    "Chosen by channels", "quantizer.selection_unit"
  ),
  "reference_update_rule": _as_reference(
    "Smoothed counts stored back", "quantizer.update"
  ),
  # The selector's gradient is not divided by up to num_steps.
  "adaptive_constant_temperature": Variant(
    "Adaptive, temperature 1",
    "adaptive_changed",
    {"sampling.temperature": "constant"},
    label="constant_temperature",
  ),
  "improved": Variant(
    "Improved",
    "improved",
    IMPROVED,
    about="Learns faster, starts on the data, chooses by distortion",
  ),
  "priced_pool": Variant(
    "Priced, the pool",
    "priced",
    _PRICED | {"quantizer.choice": "distortion"},
    label="pool",
    about="The improved pool, whose points choose codewords by their bits too",
  ),
  "improved_attention": Variant(
    "Improved, choice by attention",
    "improved_changed",
    IMPROVED | {"quantizer.choice": "attention"},
    label="attention",
  ),
  "improved_normal_init": Variant(
    "Improved, normal codewords, none revived",
    "improved_changed",
    IMPROVED
    | {
      "quantizer.placement.init": "normal",
      "quantizer.placement.revive_below": 0.0,
    },
    label="normal_init",
  ),
  "improved_constant_lr": Variant(
    "Improved, constant learning rate",
    "improved_changed",
    IMPROVED | {"schedule": "constant", "warmup_steps": 0},
    label="constant_lr",
  ),
}
"""By name; `FAMILIES` has those whose numbers may be any."""


def _fixed(size: str, dim: str) -> Variant:
  structure = (int(size), int(dim))
  return Variant(
    structure_name(structure),
    "fixed",
    {
      "quantizer.kind": "vector",
      "quantizer.codebook_size": structure[0],
      "quantizer.embedding_dim": structure[1],
    },
    label=f"{structure[0]},{structure[1]}",
  )


def _changed_fixed(
  title: str, group: str, changes: dict[str, Any], size: str, dim: str
) -> Variant:
  """One codebook with changes, which the title names."""
  fixed = _fixed(size, dim)
  return dataclasses.replace(
    fixed,
    title=f"{title}, fixed {fixed.title}",
    group=group,
    changes=changes | fixed.changes,
  )


def _priced(
  title: str, changes: dict[str, Any], stages: str, size: str, dim: str
) -> Variant:
  """Stages with a price and changes, which the title names."""
  return Variant(
    f"{title}, {stages} x {structure_name((int(size), int(dim)))}",
    "priced",
    _PRICED
    | changes
    | {
      "quantizer.kind": "residual",
      "quantizer.num_stages": int(stages),
      "quantizer.codebook_size": int(size),
      "quantizer.embedding_dim": int(dim),
      "quantizer.committed": "last",
    },
    label=f"{stages} x {size},{dim}",
  )


def _attention(stages: str, size: str, dim: str) -> Variant:
  """Stages whose number is chosen by attention, as a pool's codebook is."""
  return Variant(
    "Improved, depth by attention,"
    f" {stages} x {structure_name((int(size), int(dim)))}",
    "improved_changed",
    _IMPROVED_TRAINING
    | {
      "quantizer.kind": "residual",
      "quantizer.num_stages": int(stages),
      "quantizer.codebook_size": int(size),
      "quantizer.embedding_dim": int(dim),
      "quantizer.committed": "last",
      "quantizer.depth_choice": "attention",
    },
    label=f"attention {stages} x {size},{dim}",
  )


def _categorical(
  title: str, changes: dict[str, Any], size: str, dim: str
) -> Variant:
  """Codewords that a sampled softmax chooses, with what the title names."""
  structure = (int(size), int(dim))
  return Variant(
    f"{title}, {structure_name(structure)}",
    "improved_changed",
    {
      "learning_rate": 3e-3,
      "schedule": "cosine",
      "warmup_steps": 50,
      "sampling.temperature": "constant",
      "quantizer.kind": "categorical",
      "quantizer.codebook_size": structure[0],
      "quantizer.embedding_dim": structure[1],
    }
    | changes,
    label=f"{title} {structure[0]},{structure[1]}",
  )


def _priced_fixed(size: str, dim: str) -> Variant:
  fixed = _fixed(size, dim)
  return dataclasses.replace(
    fixed,
    title=f"Priced, {fixed.title}",
    group="priced",
    changes=_PRICED | fixed.changes,
  )


def _improved_rate(price: str) -> Variant:
  return Variant(
    f"Improved, a bit costs {price}",
    "improved",
    IMPROVED | {"quantizer.choice.rate_weight": float(price)},
    label=f"rate_{price}",
  )


def _improved_capacity(capacity: str) -> Variant:
  return Variant(
    f"Improved, W = {capacity}",
    "improved_changed",
    IMPROVED | {"quantizer.capacity": int(capacity)},
    label=f"w_{capacity}",
  )


def _with_entropy(base: str, group: str, label: str, price: str) -> Variant:
  return Variant(
    f"{VARIANTS[base].title}, a bit of entropy earns {price}",
    group,
    VARIANTS[base].changes | {"quantizer.choice.entropy_weight": float(price)},
    label=f"{label}_{price}",
  )


def _with_learning_rate(base: str, group: str, rate: str) -> Variant:
  return Variant(
    f"{VARIANTS[base].title}, learning rate {rate}",
    group,
    VARIANTS[base].changes | {"learning_rate": float(rate)},
    label=f"lr_{rate}",
  )


@dataclasses.dataclass(frozen=True)
class Family:
  """Variants that differ in numbers, which are in their names.

  Attributes:
    about: what a list says of them.
    example: the name of one.
    make: returns one, given the numbers as its name spells them.
  """

  about: str
  example: str
  make: Callable[..., Variant]


FAMILIES: dict[str, Family] = {
  "fixed_NxD": Family("N codewords of width D", "fixed_512x128", _fixed),
  "reference_fixed_NxD": Family(
    "N codewords of width D, as the code has it that the authors name",
    "reference_fixed_512x128",
    functools.partial(
      _changed_fixed,
      "As the authors' code",
      "fixed_changed",
      _REFERENCE_FIXED | _PYTORCH_INIT_FIXED,
    ),
  ),
  "pytorch_init_fixed_NxD": Family(
    "N codewords of width D, PyTorch's initial values",
    "pytorch_init_fixed_512x128",
    functools.partial(
      _changed_fixed,
      "PyTorch's initial values",
      "fixed_changed",
      _PYTORCH_INIT_FIXED,
    ),
  ),
  "adaptive_lr_X": Family(
    "A learning rate of X",
    "adaptive_lr_1e-3",
    functools.partial(_with_learning_rate, "adaptive", "adaptive_changed"),
  ),
  "adaptive_entropy_X": Family(
    "A bit of the choice's entropy earns X",
    "adaptive_entropy_1e-3",
    functools.partial(_with_entropy, "adaptive", "adaptive_changed", "entropy"),
  ),
  "improved_rate_X": Family(
    "A bit costs X", "improved_rate_3e-4", _improved_rate
  ),
  "priced_SxNxD": Family(
    "S stages of N codewords of width D",
    "priced_3x256x32",
    functools.partial(_priced, "Priced", {}),
  ),
  "priced_nominal_SxNxD": Family(
    "The same, where a codeword costs log2 N bits",
    "priced_nominal_4x64x32",
    functools.partial(
      _priced, "Priced by nominal bits", {"quantizer.price": "nominal"}
    ),
  ),
  "priced_fixed_NxD": Family(
    "N codewords of width D", "priced_fixed_2048x32", _priced_fixed
  ),
  "improved_fixed_NxD": Family(
    "N codewords of width D",
    "improved_fixed_2048x32",
    functools.partial(
      _changed_fixed, "Improved", "improved_fixed", _IMPROVED_TRAINING
    ),
  ),
  "improved_attention_SxNxD": Family(
    "S stages of N codewords of width D, as many as attention chooses",
    "improved_attention_3x256x32",
    _attention,
  ),
  "dvae_NxD": Family(
    "N codewords of width D, which a sampled softmax chooses",
    "dvae_512x64",
    functools.partial(_categorical, "dVAE", {}),
  ),
  "sq_vae_NxD": Family(
    "The same by distances and a variance that is learned",
    "sq_vae_512x64",
    functools.partial(
      _categorical,
      "SQ-VAE",
      {
        "quantizer.scores": "distance",
        "quantizer.posterior.kl_weight": 1.0,
        "model.reconstruction_loss": "log_mse",
        # Positions over numbers of an image of 3 channels, at a 4th of its
        # sides.
        "model.quantization_weight": 1 / 48,
      },
    ),
  ),
  "improved_w_N": Family(
    "Codebooks of capacity N", "improved_w_262144", _improved_capacity
  ),
  "improved_lr_X": Family(
    "A learning rate of X",
    "improved_lr_1e-3",
    functools.partial(_with_learning_rate, "improved", "improved_changed"),
  ),
  "improved_attention_entropy_X": Family(
    "Choice by attention, a bit of its entropy earns X",
    "improved_attention_entropy_1e-3",
    functools.partial(
      _with_entropy,
      "improved_attention",
      "improved_changed",
      "attention_entropy",
    ),
  ),
}
"""By the form of their names: N, D and S stand for integers, X for a number."""
