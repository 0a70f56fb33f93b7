"""The quantizer of which each group of a product quantizer has a copy."""

from collections.abc import Sequence
import dataclasses

from adq_jax.quantizers import kept as of_kept
from adq_jax.quantizers.base import Quantizer
from adq_jax.streams import Stream


def streams_of(g: int, streams: Sequence[Stream]) -> list[Stream]:
  """Returns the streams of group g, given those of the template."""
  prefix = f"group_{g}"
  return [
    dataclasses.replace(
      stream,
      name=prefix if len(streams) == 1 else f"{prefix}_{stream.name}",
      group=stream.group and f"{prefix}_{stream.group}",
    )
    for stream in streams
  ]


def check(quantizer: Quantizer, kept: of_kept.AbstractKept) -> None:
  """Raises a ValueError if a quantizer cannot be that of a group.

  Args:
    quantizer: the template.
    kept: how many groups a position keeps.
  """
  quantizer.check()
  for name in ("axis_name", "train"):
    value = getattr(quantizer, name)
    if value is not None:
      raise ValueError(
        f"{name} is {value!r}; it must be None, as the groups have the {name}"
        " of the whole"
      )
  if quantizer.spatial_axes:
    raise ValueError(
      f"spatial_axes is {quantizer.spatial_axes}; it must be 0: a group's"
      " positions have to stand for themselves"
    )
  if not kept.is_variable:
    return
  if quantizer.has_price or any(
    stream.coding != "fixed" for stream in quantizer.streams
  ):
    raise ValueError(
      f"has_price is {quantizer.has_price}; a group must have none, and no"
      f" stream that is coded by entropy, where kept is {kept!r}"
    )
