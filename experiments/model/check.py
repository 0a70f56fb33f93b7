"""Checks a config, before anything is made of it."""

from collections.abc import Iterator
import contextlib
import os

import jax
import ml_collections

from adq_jax import VQVAE
from adq_jax.metrics import GAP_KINDS
from experiments.configs import fields
from experiments.configs import quantizers
from experiments.configs import whole
from experiments.errors import UserError
from experiments.model import build

_CHOICES = {
  "schedule": ("constant", "cosine"),
  "sampling.temperature": ("linear", "constant"),
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
  "rate_weight.lowest": 0,
  "rate_weight.highest": 0,
  "rate_weight.warmup_steps": 0,
  "model.downsampling": 2,
  "model.quantization_weight": 0,
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
  """Checks a config, and converts values as `whole.check_types` does.

  Raises:
    UserError: for the first field that cannot work.
  """
  whole.check_types(config)
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
  model = _checked_model(config)
  _check_prices(config, model)
  if config.data.image_size % config.model.downsampling:
    raise _error(
      config,
      "data.image_size",
      f"a multiple of config.model.downsampling, {config.model.downsampling}",
    )
  _check_memory(config, model)


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


def _checked_model(config: ml_collections.ConfigDict) -> VQVAE:
  """Returns the model; raises a UserError if the library refuses a field."""
  with _of_group("quantizer"):
    model = build.create_model(config, "devices")
  with _of_group("model"):
    model.check()
  with _of_group("quantizer"):
    model.quantizer.check()
  return model


@contextlib.contextmanager
def _of_group(group: str) -> Iterator[None]:
  """Makes a UserError of what the library says of a group's field."""
  try:
    yield
  except ValueError as error:
    raise UserError(f"config.{group}.{error}") from error


def _check_prices(config: ml_collections.ConfigDict, model: VQVAE) -> None:
  lowest, highest = config.rate_weight.lowest, config.rate_weight.highest
  if not 0 < lowest < highest and (lowest or highest):
    raise _error(
      config,
      "rate_weight.lowest",
      f"above 0 and below config.rate_weight.highest, {highest}, or both 0",
    )
  if highest and not model.has_price:
    raise _error(
      config,
      "rate_weight.highest",
      "0 unless the quantizer has a price of bits, such as"
      " config.quantizer.price=coded",
    )


def _check_memory(config: ml_collections.ConfigDict, model: VQVAE) -> None:
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
  codewords = sum(stream.alphabet * stream.width for stream in model.streams)
  holders = processes if model.sharded_size else 1
  sizes = quantizers.sized_by(config.quantizer.to_dict())
  for names, needed in (
    (("batch_size", "data.image_size"), images // processes),
    # A 3x3 convolution in float32, with the two moments of Adam.
    (("model.features",), 9 * features**2 * 4 * 3),
    # In float32, with the sums of their points.
    ([f"quantizer.{name}" for name in sizes], codewords * 4 * 2 // holders),
  ):
    if needed > memory:
      values = " and ".join(
        f"config.{name} is {fields.shown(_get(config, name))}" for name in names
      )
      raise UserError(
        f"{values}, which needs at least {needed / _GIB:,.0f} GiB; this"
        f" machine has {memory / _GIB:,.0f} GiB: use less"
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
