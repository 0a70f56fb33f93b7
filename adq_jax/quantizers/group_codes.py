"""The codes of a product quantizer: an axis of groups behind the positions'.

Shapes: G groups.
"""

from collections.abc import Sequence
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from adq_jax.quantizers import stages
from adq_jax.quantizers.base import Quantizer


@dataclasses.dataclass(frozen=True)
class GroupCodes:
  """Takes codes of groups apart, and puts them together.

  Attributes:
    quantizer: of a group, whose codes may be any structure of arrays.
    num_groups: G.
  """

  quantizer: Quantizer
  num_groups: int

  def join(self, of_groups: Sequence[Any]) -> Any:
    """Returns codes `[..., G, more]`, of those of each group `[..., more]`."""
    return jax.tree.map(
      lambda rank, *x: jnp.stack(x, axis=x[0].ndim - rank),
      self._ranks(),
      *of_groups,
    )

  def split(self, codes: Any) -> list[Any]:
    """Returns the codes of each group: the inverse of `join`.

    Raises:
      ValueError: if there is no axis G.
    """

    def axis(x: jax.Array, rank: int) -> int:
      at = jnp.ndim(x) - rank - 1
      if at < 0 or jnp.shape(x)[at] != self.num_groups:
        raise ValueError(
          f"codes has shape {jnp.shape(x)}; its axis {-rank - 1} must be of"
          f" length {self.num_groups}, the quantizer's num_groups"
        )
      return at

    axes = jax.tree.map(axis, codes, self._ranks())
    return [
      jax.tree.map(
        lambda x, at, g=g: jax.lax.index_in_dim(x, g, at, keepdims=False),
        codes,
        axes,
      )
      for g in range(self.num_groups)
    ]

  def is_kept(self, codes: Any) -> jax.Array:
    """Returns which groups codes have, bool `[..., G]`: those up to the first
    one that is not there.
    """
    self.split(codes)  # which checks them
    first, rank = jax.tree.leaves(codes)[0], jax.tree.leaves(self._ranks())[0]
    is_used = stages.is_used(first)
    if rank:
      is_used = is_used.any(axis=tuple(range(-rank, 0)))
    # Along the last axis, from the first group on.
    return jax.lax.cummin(is_used.astype(jnp.int32), is_used.ndim - 1) > 0

  def cut(self, codes: Any, is_kept: jax.Array, value: int) -> Any:
    """Returns codes with a value for groups that are not kept, `[..., G]`."""

    def cut(x: jax.Array, rank: int) -> jax.Array:
      return jnp.where(
        is_kept.reshape(*is_kept.shape, *(1,) * rank),
        x,
        jnp.asarray(value, x.dtype),
      )

    return jax.tree.map(cut, codes, self._ranks())

  def _ranks(self) -> Any:
    """Returns how many axes a group's codes have behind those of positions."""
    numbers = [jnp.zeros((), jnp.int32) for _ in self.quantizer.streams]
    codes = jax.eval_shape(
      functools.partial(self.quantizer.from_streams, numbers)
    )
    return jax.tree.map(lambda x: x.ndim, codes)
