"""Configs as they were stored before a quantizer's fields were blocks."""

from collections.abc import Mapping
from typing import Any

import ml_collections

from experiments.configs import fields

# What fields had where they said nothing of a quantizer.
_UNUSED = {
  "selection": "attention",
  "rate_weight": 0.0,
  "entropy_weight": 0.0,
  "selection_unit": "position",
  "selection_logits": "log_weights",
  "num_heads": 2,
  "shard_codebook": False,
}
_OF_CHOICE = {"logits": "selection_logits"}
_KINDS = ("adaptive", "vector")
# Fields that came later, and had only these values.
_LATER = {
  "model.initial.kernel": "lecun_normal",
  "model.initial.bias": "zeros",
  "quantizer.projection_init": "identity",
  "quantizer.choice.input_init": "lecun_normal",
  "quantizer.placement.revive_updates": 0,
  "quantizer.placement.kmeans_iterations": 10,
  "quantizer.price.kind": "none",
  "rate_weight.lowest": 0.0,
  "rate_weight.highest": 0.0,
  "rate_weight.warmup_steps": 0,
}
_SAME = ("commitment_cost", "output_kernel", "selection_unit", "shard_codebook")


def could_be(config: ml_collections.ConfigDict) -> bool:
  """Whether earlier versions had such a config, whatever they called it."""
  values = fields.flatten(config.to_dict())
  if values["quantizer.kind"] not in _KINDS:
    return False
  return all(values.get(name, value) == value for name, value in _LATER.items())


def stored(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """Returns the fields that a config.json had for a config of now."""
  values = config.to_dict()
  del values["model"]["initial"], values["rate_weight"]
  sampling, block = values.pop("sampling"), values["quantizer"]
  placement, choice = block["placement"], dict(block.get("choice", {}))
  choice.pop("input_init", None)
  quantizer = _UNUSED | {name: block[name] for name in _SAME if name in block}
  if choice:
    quantizer["selection"] = choice.pop("kind")
  quantizer |= {_OF_CHOICE.get(name, name): choice[name] for name in choice}
  values["temperature"] = sampling["temperature"]
  values["quantizer"] = {
    **quantizer,
    **_structures(block),
    "draw_in_evaluation": sampling["draw_in_evaluation"],
    "update_rule": block["update"]["kind"],
    "decay": block["update"]["decay"],
    "codebook_init": placement["init"],
    "revive_below": placement["revive_below"],
  }
  return values


def _structures(block: Mapping[str, Any]) -> dict[str, Any]:
  if "codebook_size" not in block:
    names = ("kind", "capacity", "structures")
    return {name: block[name] for name in names}
  size, dim = block["codebook_size"], block["embedding_dim"]
  return {"kind": "fixed", "capacity": size * dim, "structures": ((size, dim),)}
