"""Builds the model that a checked config describes."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import ml_collections

from adq_jax import AdaptiveQuantizer
from adq_jax import codebook_structures
from adq_jax import VectorQuantizer
from adq_jax import VQVAE
from experiments.configs import fields
from experiments.errors import UserError

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


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
    raise fields.wrong(
      "quantizer.structures",
      config.quantizer.structures,
      "pairs of integers, ((N, D), ...)",
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
  quantizer = QUANTIZERS[config.quantizer.kind](config, axis_name)
  return VQVAE(
    quantizer=quantizer,
    channels=config.data.channels,
    network=config.model.network,
    features=config.model.features,
    downsampling=config.model.downsampling,
    quantization_weight=config.model.quantization_weight,
    decoder_first_convolution=config.model.decoder_first_convolution,
    dtype=DTYPES[config.dtype],
  )


def _adaptive(
  config: ml_collections.ConfigDict, axis_name: str | None
) -> AdaptiveQuantizer:
  is_learned = config.quantizer.selection != "distortion"
  return AdaptiveQuantizer(
    structures(config),
    **_common(config, axis_name),
    **_of_config(config, _OF_CHOICE),
    **(_of_config(config, _OF_ATTENTION) if is_learned else {}),
  )


def _fixed(
  config: ml_collections.ConfigDict, axis_name: str | None
) -> VectorQuantizer:
  return VectorQuantizer(
    *structures(config)[0],
    **_common(config, axis_name),
    shard_codebook=config.quantizer.shard_codebook and axis_name is not None,
  )


def _common(
  config: ml_collections.ConfigDict, axis_name: str | None
) -> dict[str, Any]:
  """What all quantizers with codebooks take."""
  return {
    "features": config.model.features,
    "update": config.quantizer.update_rule,
    "axis_name": axis_name,
    **_of_config(config, _OF_CODEBOOKS),
  }


def _of_config(
  config: ml_collections.ConfigDict, names: Sequence[str]
) -> dict[str, Any]:
  return {name: config.quantizer[name] for name in names}


_OF_CODEBOOKS = (
  "commitment_cost",
  "decay",
  "codebook_init",
  "revive_below",
  "output_kernel",
)
_OF_CHOICE = (
  "selection",
  "rate_weight",
  "entropy_weight",
  "selection_unit",
)
# Whatever their values are, they mean nothing to another choice.
_OF_ATTENTION = ("selection_logits", "num_heads")
QUANTIZERS = {"adaptive": _adaptive, "fixed": _fixed}
