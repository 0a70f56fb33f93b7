"""Checks a config and builds what it describes."""

import os

import jax
import jax.numpy as jnp
import ml_collections
import optax

from adq_jax import AdaptiveQuantizer
from adq_jax import codebook_structures
from adq_jax import selection
from adq_jax import VectorQuantizer
from adq_jax import VQVAE
from adq_jax.metrics import GAP_KINDS
from adq_jax.networks import BLOCKS
from adq_jax.quantizers.vector import UPDATES
from experiments import fields
from experiments import nonfinite
from experiments.errors import UserError

_DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
_CHOICES = {
  "schedule": ("constant", "cosine"),
  "temperature": ("linear", "constant"),
  "dtype": tuple(_DTYPES),
  "on_nonfinite": nonfinite.CHOICES,
  "model.network": tuple(BLOCKS),
  "quantizer.kind": ("adaptive", "fixed"),
  "gradient_gap": GAP_KINDS,
  "quantizer.selection": selection.SELECTIONS,
  "quantizer.selection_unit": selection.UNITS,
  "quantizer.selection_logits": selection.LOGITS,
  "quantizer.update_rule": UPDATES,
  "quantizer.codebook_init": ("normal", "data"),
}
_MINIMA = {
  "seed": 0,
  "num_steps": 1,
  "batch_size": 1,
  "learning_rate": 0,
  "warmup_steps": 0,
  "steps_per_call": 1,
  "log_every": 1,
  "eval_every": 1,
  "checkpoint_every": 1,
  "gradient_gap_every": 0,
  "max_skipped": 0,
  "rate_examples": 0,
  "model.features": 4,
  "model.downsampling": 2,
  "model.quantization_weight": 0,
  "quantizer.num_heads": 1,
  "quantizer.rate_weight": 0,
  "quantizer.entropy_weight": 0,
  "quantizer.output_kernel": 1,
  "quantizer.commitment_cost": 0,
  "quantizer.revive_below": 0,
  "data.image_size": 1,
  "data.channels": 1,
  "data.paper_batch_size": 1,
}
_NOT_NEGATIVE = ("memory_budget_gib", "resize_to")  # data fields of some sets
# JAX counts and indexes in int32.
_LARGEST = 2**31 - 1
_MAXIMA = {
  "seed": 2**32 - 1,  # of a larger one JAX takes the last 32 bits alone
  "quantizer.capacity": 2**63 - 1,  # the product of two
}
_GIB = 2**30


def check(config: ml_collections.ConfigDict) -> None:
  """Checks a config, and converts values as `fields.check_types` does.

  Raises:
    UserError: for the first field that cannot work.
  """
  fields.check_types(config)
  for field, choices in _CHOICES.items():
    if _get(config, field) not in choices:
      raise _error(config, field, f"one of {', '.join(choices)}")
  _check_ranges(config)
  for field in (
    "log_every",
    "eval_every",
    "checkpoint_every",
    "gradient_gap_every",
  ):
    if config[field] % config.steps_per_call:
      raise _error(
        config,
        field,
        f"a multiple of config.steps_per_call, {config.steps_per_call}",
      )
  if not 0 <= config.quantizer.decay < 1:
    raise _error(config, "quantizer.decay", "in [0, 1)")
  factor = config.model.downsampling
  if factor & (factor - 1):
    raise _error(config, "model.downsampling", "a power of two")
  if config.data.image_size % factor:
    raise _error(
      config,
      "data.image_size",
      f"a multiple of config.model.downsampling, {factor}",
    )
  if config.model.features % config.quantizer.num_heads:
    raise _error(
      config,
      "quantizer.num_heads",
      f"a divisor of config.model.features, {config.model.features}",
    )
  quantizer = config.quantizer
  for field, needed in selection.WEIGHTS_OF.items():
    if quantizer[field] and quantizer.selection != needed:
      raise _error(
        config,
        f"quantizer.{field}",
        f"0 unless config.quantizer.selection is {needed}",
      )
  if quantizer.output_kernel % 2 == 0:
    raise _error(config, "quantizer.output_kernel", "an odd number")
  if quantizer.update_rule != "ema" and (
    quantizer.codebook_init == "data" or quantizer.revive_below > 0
  ):
    raise _error(
      config,
      "quantizer.update_rule",
      "ema where codebook_init is data or revive_below is above 0",
    )
  if quantizer.shard_codebook and (
    quantizer.kind != "fixed" or quantizer.update_rule == "gradient"
  ):
    raise _error(
      config,
      "quantizer.shard_codebook",
      "False where the quantizer is not fixed or its update_rule is gradient",
    )
  _check_structures(config)
  _check_memory(config)


def check_batch(config: ml_collections.ConfigDict, num_images: int) -> None:
  """Raises a UserError if a batch has more images than there are to train on.

  Some of them would be in every batch more than once.
  """
  if config.batch_size > num_images:
    raise _error(
      config,
      "batch_size",
      f"at most {num_images}, the training images of {config.name}",
    )


def sharded_size(config: ml_collections.ConfigDict) -> int:
  """Returns how many codewords devices share out; 0 where each has all."""
  return structures(config)[0][0] if config.quantizer.shard_codebook else 0


def structures(
  config: ml_collections.ConfigDict,
) -> tuple[tuple[int, int], ...]:
  """Returns the structures (N, D) of a config's codebooks."""
  chosen = config.quantizer.structures
  if not chosen:
    try:
      chosen = codebook_structures(config.quantizer.capacity)
    except ValueError as error:
      raise UserError(f"config.quantizer.{error}") from error
  try:
    pairs = tuple((n, d) for n, d in chosen)
  except (TypeError, ValueError):
    pairs = ()
  if not pairs or any(type(size) is not int for size in sum(pairs, ())):
    raise _error(
      config, "quantizer.structures", "pairs of integers, ((N, D), ...)"
    )
  return pairs


def create_model(
  config: ml_collections.ConfigDict, axis_name: str | None = None
) -> VQVAE:
  """Returns the model of a checked config.

  Args:
    config: of an experiment.
    axis_name: the mapped axis over which training batches are spread, and a
      sharded codebook; without it that is whole.
  """
  common = {
    "features": config.model.features,
    "commitment_cost": config.quantizer.commitment_cost,
    "decay": config.quantizer.decay,
    "update": config.quantizer.update_rule,
    "codebook_init": config.quantizer.codebook_init,
    "revive_below": config.quantizer.revive_below,
    "output_kernel": config.quantizer.output_kernel,
    "axis_name": axis_name,
  }
  if config.quantizer.kind == "adaptive":
    quantizer = AdaptiveQuantizer(
      structures(config),
      selection=config.quantizer.selection,
      rate_weight=config.quantizer.rate_weight,
      entropy_weight=config.quantizer.entropy_weight,
      selection_unit=config.quantizer.selection_unit,
      selection_logits=config.quantizer.selection_logits,
      num_heads=config.quantizer.num_heads,
      **common,
    )
  else:
    quantizer = VectorQuantizer(
      *structures(config)[0],
      shard_codebook=config.quantizer.shard_codebook and axis_name is not None,
      **common,
    )
  return VQVAE(
    quantizer=quantizer,
    channels=config.data.channels,
    network=config.model.network,
    features=config.model.features,
    downsampling=config.model.downsampling,
    quantization_weight=config.model.quantization_weight,
    decoder_first_convolution=config.model.decoder_first_convolution,
    dtype=_DTYPES[config.dtype],
  )


def learning_rate(config: ml_collections.ConfigDict) -> optax.Schedule:
  """Returns the learning rate as a function of the steps done."""
  peak, warmup = config.learning_rate, config.warmup_steps
  if config.schedule == "cosine":
    main = optax.cosine_decay_schedule(peak, max(config.num_steps - warmup, 1))
  else:
    main = optax.constant_schedule(peak)
  rise = optax.linear_schedule(0.0, peak, max(warmup, 1))
  return optax.join_schedules([rise, main], [warmup])


def temperature(config: ml_collections.ConfigDict) -> optax.Schedule:
  """Returns tau as a function of the steps done (appendix A.1).

  In step s, counted from 1, it is num_steps - s + 1.
  """
  if config.temperature == "constant":
    return optax.constant_schedule(1.0)
  return lambda steps_done: (config.num_steps - steps_done).astype(jnp.float32)


def _check_ranges(config: ml_collections.ConfigDict) -> None:
  some = {f"data.{name}": 0 for name in _NOT_NEGATIVE if name in config.data}
  minima = _MINIMA | some
  for field, value in fields.flatten(config.to_dict()).items():
    if field in minima and not value >= minima[field]:
      raise _error(config, field, f"at least {minima[field]}")
    largest = _MAXIMA.get(field, _LARGEST)
    if type(value) is int and value > largest:
      raise _error(config, field, f"at most {largest}")


def _check_memory(config: ml_collections.ConfigDict) -> None:
  """Raises a UserError for a model or a batch that exceeds this machine.

  It counts only a part of the memory that training takes, so that it refuses
  nothing that fits.
  """
  memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
  processes = 1
  if jax.distributed.is_initialized():
    # Only then, as JAX takes hold of the accelerators here.
    processes = jax.process_count()
  size, features = config.data.image_size, config.model.features
  images = config.batch_size * size**2 * config.data.channels
  codewords = sum(n * d for n, d in structures(config))
  is_given = bool(config.quantizer.structures)
  for names, needed in (
    (("batch_size", "data.image_size"), images // processes),
    # A 3x3 convolution in float32, with the two moments of Adam.
    (("model.features",), 9 * features**2 * 4 * 3),
    # In float32, with the sums of their points.
    (
      ("quantizer.structures" if is_given else "quantizer.capacity",),
      codewords * 4 * 2 // (processes if sharded_size(config) else 1),
    ),
  ):
    if needed > memory:
      values = " and ".join(
        f"config.{name} is {fields.shown(_get(config, name))}" for name in names
      )
      raise UserError(
        f"{values}, which needs at least {needed / _GIB:,.0f} GiB; this"
        f" machine has {memory / _GIB:,.0f} GiB: use less"
      )


def _check_structures(config: ml_collections.ConfigDict) -> None:
  field, capacity = "quantizer.structures", config.quantizer.capacity
  chosen = structures(config)
  if config.quantizer.kind == "fixed" and len(chosen) != 1:
    raise _error(config, field, "a single pair where the quantizer is fixed")
  for codebook_size, embedding_dim in chosen:
    name = f"structure [{codebook_size},{embedding_dim}]"
    if max(codebook_size, embedding_dim) > _LARGEST:
      source = field if config.quantizer.structures else "quantizer.capacity"
      raise UserError(
        f"config.{source} makes the {name}; both must be at most {_LARGEST}"
      )
    if capacity == 0:
      if codebook_size < 1 or embedding_dim < 1:
        raise UserError(f"config.{field} has the {name}; both must be positive")
      continue
    if embedding_dim < 1 or codebook_size <= embedding_dim:
      raise UserError(
        f"config.{field} has the {name}; it needs more codewords than they"
        " are wide, N > D >= 1"
      )
    if codebook_size * embedding_dim != capacity:
      raise UserError(
        f"config.{field} has the {name}, of capacity"
        f" {codebook_size * embedding_dim}; it must be that of"
        f" config.quantizer.capacity, {capacity}, or this be 0"
      )


def _get(config: ml_collections.ConfigDict, field: str):
  value = config
  for part in field.split("."):
    value = value[part]
  return value


def _error(
  config: ml_collections.ConfigDict, field: str, wanted: str
) -> UserError:
  return fields.wrong(field, _get(config, field), wanted)
