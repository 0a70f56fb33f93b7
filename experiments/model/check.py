"""Checks a config, before anything is made of it."""

from collections.abc import Iterator
import contextlib
import os

import jax
import ml_collections

from adq_jax.metrics import GAP_KINDS
from experiments.configs import fields
from experiments.configs import whole
from experiments.errors import UserError
from experiments.model import build

_CHOICES = {
  "schedule": ("constant", "cosine"),
  "temperature": ("linear", "constant"),
  "dtype": tuple(build.DTYPES),
  "on_nonfinite": ("stop", "skip"),
  "gradient_gap": GAP_KINDS,
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
  "model.downsampling": 2,
  "model.quantization_weight": 0,
  "data.image_size": 1,
  "data.channels": 1,
  "data.paper_batch_size": 1,
}
# Of the library's fields.
_CONFIG_NAMES = {
  "choice.entropy_weight": "entropy_weight",
  "choice.logits": "selection_logits",
  "choice.num_heads": "num_heads",
  "choice.rate_weight": "rate_weight",
  "placement.init": "codebook_init",
  "placement.revive_below": "revive_below",
  "update": "update_rule",
  "update.decay": "decay",
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
  """Checks a config, and converts values as `whole.check_types` does.

  Raises:
    UserError: for the first field that cannot work.
  """
  whole.check_types(config)
  choices_of = _CHOICES | {"quantizer.kind": tuple(build.QUANTIZERS)}
  for field, choices in choices_of.items():
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
  if config.quantizer.shard_codebook and config.quantizer.kind != "fixed":
    raise _error(
      config,
      "quantizer.shard_codebook",
      "False where config.quantizer.kind is not fixed",
    )
  _check_structures(config)
  _check_model(config)
  if config.data.image_size % config.model.downsampling:
    raise _error(
      config,
      "data.image_size",
      f"a multiple of config.model.downsampling, {config.model.downsampling}",
    )
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


def _check_ranges(config: ml_collections.ConfigDict) -> None:
  some = {f"data.{name}": 0 for name in _NOT_NEGATIVE if name in config.data}
  minima = _MINIMA | some
  for field, value in fields.flatten(config.to_dict()).items():
    if field in minima and not value >= minima[field]:
      raise _error(config, field, f"at least {minima[field]}")
    largest = _MAXIMA.get(field, _LARGEST)
    if type(value) is int and value > largest:
      raise _error(config, field, f"at most {largest}")


def _check_model(config: ml_collections.ConfigDict) -> None:
  """Raises a UserError if the library refuses a field."""
  with _named("quantizer"):
    model = build.create_model(config, "devices")
  with _named("model"):
    model.check()
  with _named("quantizer"):
    model.quantizer.check()


@contextlib.contextmanager
def _named(part: str) -> Iterator[None]:
  """Makes a UserError of the library's: of a field, the config's name."""
  try:
    yield
  except ValueError as error:
    field, _, rest = str(error).partition(" ")
    field = _CONFIG_NAMES.get(field, field)
    raise UserError(f"config.{part}.{field} {rest}") from error


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
  codewords = sum(n * d for n, d in build.structures(config))
  holders = processes if config.quantizer.shard_codebook else 1
  is_given = bool(config.quantizer.structures)
  for names, needed in (
    (("batch_size", "data.image_size"), images // processes),
    # A 3x3 convolution in float32, with the two moments of Adam.
    (("model.features",), 9 * features**2 * 4 * 3),
    # In float32, with the sums of their points.
    (
      ("quantizer.structures" if is_given else "quantizer.capacity",),
      codewords * 4 * 2 // holders,
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
  chosen = build.structures(config)
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
