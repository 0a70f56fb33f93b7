"""Reads configs of earlier versions, in which some fields had other names.

Runs of before have such a config.json, and go on to work.  A person who writes
an earlier name is told the one that it has now.
"""

from collections.abc import Mapping
from typing import Any

# The name that a field had, and the one that it has.
MOVED = {
  "temperature": "sampling.temperature",
  "quantizer.draw_in_evaluation": "sampling.draw_in_evaluation",
  "quantizer.update_rule": "quantizer.update",
  "quantizer.decay": "quantizer.update.decay",
  "quantizer.codebook_init": "quantizer.placement.init",
  "quantizer.revive_below": "quantizer.placement.revive_below",
  "quantizer.selection": "quantizer.choice",
  "quantizer.num_heads": "quantizer.choice.num_heads",
  "quantizer.selection_logits": "quantizer.choice.logits",
  "quantizer.entropy_weight": "quantizer.choice.entropy_weight",
  "quantizer.rate_weight": "quantizer.choice.rate_weight",
}
KINDS = {"fixed": "vector"}
"""The name that a kind of quantizer had, and the one that it has."""

# Kinds that there were, by their names of now, when fields had other names.  A
# later kind may have a field of such a name.
_EARLIER_KINDS = ("adaptive", "vector", "residual")
_SLOTS = ("quantizer.update", "quantizer.choice")  # moved ones: to their kind
# A config had all of these fields, whichever of them its quantizer has.
_OF_POOLS = (
  "capacity",
  "selection",
  "num_heads",
  "selection_logits",
  "selection_unit",
  "entropy_weight",
  "rate_weight",
)
_OF_CHOICE = {
  "attention": ("num_heads", "selection_logits", "entropy_weight"),
  "distortion": ("rate_weight",),
}
# These had to be 0 where they meant nothing; others might be anything.
_WEIGHTS = ("entropy_weight", "rate_weight")
_DEFAULT_CHOICE = "attention"


def upgrade(values: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the fields of a config as they are called now.

  Args:
    values: nested, of any version; some may be missing or unknown.  They are
      left as they are.
  """
  values = _copy(values)
  quantizer = values.get("quantizer")
  is_earlier = False
  if isinstance(quantizer, dict):
    _select(quantizer)
    is_earlier = quantizer.get("kind", _EARLIER_KINDS[0]) in _EARLIER_KINDS
  holders = {"": values} | ({"quantizer": quantizer} if is_earlier else {})
  for old, new in MOVED.items():
    group, _, name = old.rpartition(".")
    holder = holders.get(group, {})
    if name in holder:
      path = f"{new}.kind" if new in _SLOTS else new
      _put(values, path.split("."), holder.pop(name))
  return values


def _select(quantizer: dict[str, Any]) -> None:
  """Removes what says nothing of a quantizer of its kind."""
  kind = quantizer.get("kind")
  if isinstance(kind, str) and kind in KINDS:
    quantizer["kind"] = KINDS[kind]
    for name in _OF_POOLS:
      quantizer.pop(name, None)
    structures = quantizer.get("structures")
    if _is_one_pair(structures):
      del quantizer["structures"]
      ((size, dim),) = structures
      quantizer |= {"codebook_size": size, "embedding_dim": dim}
    return
  if "codebook_size" not in quantizer:
    _select_choice(quantizer)
    # Only one codebook could be sharded.
    if quantizer.get("shard_codebook") is False:
      del quantizer["shard_codebook"]


def _select_choice(quantizer: dict[str, Any]) -> None:
  choice = quantizer.get("selection", _DEFAULT_CHOICE)
  if not isinstance(choice, str) or choice not in _OF_CHOICE:
    return  # a mistake, which is named where kinds are known
  for other, names in _OF_CHOICE.items():
    for name in names:
      means_nothing = name not in _WEIGHTS or not quantizer.get(name)
      if other != choice and means_nothing:
        quantizer.pop(name, None)


def _is_one_pair(structures: Any) -> bool:
  return (
    isinstance(structures, list | tuple)
    and len(structures) == 1
    and isinstance(structures[0], list | tuple)
    and len(structures[0]) == 2
  )


def _put(values: dict[str, Any], path: list[str], value: Any) -> None:
  """Gives a nested field its value, unless it has one by its new name."""
  *groups, name = path
  for group in groups:
    inner = values.setdefault(group, {})
    if not isinstance(inner, dict):
      return  # a mistake, which is named where types are known
    values = inner
  values.setdefault(name, value)


def _copy(values: Mapping[str, Any]) -> dict[str, Any]:
  return {
    name: _copy(value) if isinstance(value, dict) else value
    for name, value in values.items()
  }
