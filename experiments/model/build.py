"""Builds the model that a checked config describes."""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
from typing import Any

import jax.numpy as jnp
import ml_collections

from adq_jax import InitialValues
from adq_jax import Quantizer
from adq_jax import VQVAE
from experiments.configs import quantizers

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


def create_model(
  config: ml_collections.ConfigDict, axis_name: str | None = None
) -> VQVAE:
  """Returns the model of a checked config.

  Args:
    config: of an experiment.
    axis_name: the mapped axis over which training batches are spread, and a
      sharded codebook; without it the codebook is unsharded.
  """
  return VQVAE(
    quantizer=create_quantizer(config, axis_name),
    channels=config.data.channels,
    network=config.model.network,
    features=config.model.features,
    downsampling=config.model.downsampling,
    quantization_weight=config.model.quantization_weight,
    decoder_first_convolution=config.model.decoder_first_convolution,
    initial=InitialValues(**config.model.initial.to_dict()),
    dtype=DTYPES[config.dtype],
    reconstruction_loss=config.model.reconstruction_loss,
  )


def create_quantizer(
  config: ml_collections.ConfigDict, axis_name: str | None = None
) -> Quantizer:
  """Returns the quantizer of a checked config.

  Args:
    config: of an experiment.
    axis_name: as of `create_model`.

  Raises:
    ValueError: if fields of the config's quantizer do not fit.
  """
  block = config.quantizer.to_dict()
  kind = quantizers.kinds()[block.pop(quantizers.KIND)]
  values = kind.resolve(block)
  if axis_name is None and "shard_codebook" in values:
    values["shard_codebook"] = False  # there is nothing to spread it over
  names = {field.name for field in dataclasses.fields(kind.cls)}
  of_model = {"features": config.model.features, "axis_name": axis_name}
  given = {name: of_model[name] for name in quantizers.OF_MODEL}
  given = {name: value for name, value in given.items() if name in names}
  values = _with_objects(quantizers.of_kind(kind), values)
  if kind.template is not None:
    own = [field.name for field in quantizers.of_template(kind)]
    values[quantizers.TEMPLATE] = kind.template(
      **{name: values.pop(name) for name in own if name in values}
    )
  return kind.cls(**values, **given)


def _with_objects(
  own: Sequence[dataclasses.Field], values: Mapping[str, Any]
) -> dict[str, Any]:
  """Returns values of fields, with objects in place of the blocks."""
  result = dict(values)
  for field in own:
    classes = quantizers.classes_of(field)
    if classes and field.name in values:
      block = dict(values[field.name])
      (only, *_) = classes
      of_slot = classes[block.pop(quantizers.KIND, only)]
      result[field.name] = of_slot(
        **_with_objects(quantizers.of_block(of_slot), block)
      )
  return result
