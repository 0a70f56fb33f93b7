"""What makes one choice of a codebook: a position, or channels in memory.

The values `[..., C]` of units have the shape of z, but their vectors may be
other parts of it.  Shapes: C features of z, m codebooks.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from adq_jax import checks

_UNITS = ("position", "channels")


def check_unit(field: str, unit: str) -> None:
  """Raises a ValueError unless there is such a unit."""
  checks.check_choice(field, unit, _UNITS)


def is_spread(unit: str, output_kernel: int) -> bool:
  """Whether a position's values come from the choices of several units."""
  return unit == "channels" or output_kernel > 1


def to_units(values: jax.Array, unit: str) -> jax.Array:
  """Returns values `[..., C]` in the order in which parts are chosen for.

  Args:
    values: `[..., C]`; `[..., H, W, C]` for `"channels"`.
    unit: `"position"`; or `"channels"`, C neighbours in the memory of
      `[..., C, H, W]`.
  """
  if unit == "position":
    return values
  return jnp.moveaxis(values, -1, -3).reshape(values.shape)


def from_units(values: jax.Array, unit: str) -> jax.Array:
  """Returns values of units as those of positions: `to_units` undone."""
  if unit == "position":
    return values
  *batch, height, width, features = values.shape
  planes = values.reshape(*batch, features, height, width)
  return jnp.moveaxis(planes, -3, -1)


def is_needed(
  book: jax.Array, num_codebooks: int, unit: str, output_kernel: int
) -> jax.Array:
  """Returns whether decoding needs each codebook's index, bool `[..., m]`.

  Args:
    book: the codebook that each unit uses, int32 `[...]`.
    num_codebooks: m.
    unit: what makes one choice.
    output_kernel: side of the projections after the codebooks.
  """
  chosen = jnp.stack([book == i for i in range(num_codebooks)], axis=-1)
  if unit == "channels":
    in_image = chosen.any(axis=(-3, -2), keepdims=True)
    return jnp.broadcast_to(in_image, chosen.shape)
  if output_kernel > 1:
    sides = (output_kernel, output_kernel)
    return nn.max_pool(chosen.astype(jnp.float32), sides, padding="SAME") > 0
  return chosen


def pick(book: jax.Array, of_each: list[jax.Array]) -> jax.Array:
  """Returns what the chosen codebook gave each unit.

  Args:
    book: int32 `[...]`.
    of_each: of each codebook, `[...]` or `[..., more]`.
  """
  picked = of_each[0]
  is_vector = picked.ndim > book.ndim
  for i, own in enumerate(of_each[1:], start=1):
    is_it = book == i
    picked = jnp.where(is_it[..., None] if is_vector else is_it, own, picked)
  return picked
