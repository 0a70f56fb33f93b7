"""Finite scalar quantization (Mentzer et al., 2023).

Shapes: C features of z, d numbers of a point, T points.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import types
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from adq_jax import checks
from adq_jax.quantizers import grid

_MARGIN = 1e-3  # the paper's; tanh comes as near to the outermost levels
_MOST_LEVELS = 1000  # of which it reaches the outermost


class FSQ(grid.GridQuantizer):
  """Rounds each of a few numbers to one of a few levels.

  There is no codebook: the codes are the points of a grid, and nothing but the
  networks around it learns.  So no code can die.  There is no loss either.  The
  gradient goes through the rounding as if it were none, but it goes through the
  tanh before that, which takes it from large numbers.

      quantizer = FSQ(FSQ.recommended[10], features=64)  # about 2^10 codes

  A code is d integers, one for each number; `to_index` makes one integer of
  them, for a model of tokens.

  Attributes:
    levels: L of each of the d numbers, each from 3 to 1,000.
    features: C, with 1x1 projections C -> d and d -> C around the rounding;
      None where z has width d itself.
    projection_init: how the projections start: as parts of the `"identity"`, or
      random as in `"pytorch"`.
    axis_name: the mapped axis over which a training batch is spread.
    recommended: the paper's levels for about 2^b codes, by b.

  Example:
    >>> import jax.numpy as jnp
    >>> from adq_jax import FSQ
    >>> quantizer = FSQ((3, 5, 4))
    >>> result = quantizer.apply({}, jnp.array([0.25, 0.6, -7.0]))
    >>> print(result.values, result.codes, quantizer.to_index(result.codes))
    [ 0.   0.5 -1. ] [1 3 0] 10
  """

  levels: tuple[int, ...]
  features: int | None = None
  projection_init: str = "identity"
  axis_name: str | None = None

  recommended: ClassVar[Mapping[int, tuple[int, ...]]] = types.MappingProxyType(
    {
      4: (5, 3),
      6: (8, 8),
      8: (8, 6, 5),
      9: (8, 8, 8),
      10: (8, 5, 5, 5),
      11: (8, 8, 6, 5),
      12: (7, 5, 5, 5, 5),
      14: (8, 8, 8, 6, 5),
      16: (8, 8, 8, 5, 5, 5),
    }
  )
  decoding_fields: ClassVar[tuple[str, ...]] = ("levels", "features")

  @property
  def alphabets(self) -> tuple[int, ...]:
    """The levels."""
    return self.levels

  @nn.nowrap
  def place(self, points: jax.Array) -> jax.Array:
    """Returns points float32 `[T, d]` between the outermost levels."""
    levels = np.array(self.levels)
    half = (levels - 1) * (1 - _MARGIN) / 2
    # An even number of levels has no middle one: zero is half a level too high.
    offset = np.where(levels % 2, 0.0, 0.5) / half
    # The paper's listing has tan here, which keeps zero only nearly in place.
    shift = np.arctanh(offset)
    scale = half / (levels // 2)
    scale, offset, shift = (
      grid.aligned(x.astype(np.float32), points) for x in (scale, offset, shift)
    )
    # Nothing is added to a product, which compilers may round once or twice.
    return (jnp.tanh(points + shift) - offset) * scale

  @nn.nowrap
  def round(self, placed: jax.Array) -> jax.Array:
    """Returns the codes int32 `[T, d]` of what `place` returns."""
    half = self.levels_like(placed) // 2
    return (jnp.round(placed * half) + half).astype(jnp.int32)

  @nn.nowrap
  def to_numbers(self, codes: jax.Array) -> jax.Array:
    """Returns the numbers float32 `[..., d]` of codes, in [-1, 1]."""
    half = self.levels_like(codes) // 2
    return (codes - half).astype(jnp.float32) / half.astype(jnp.float32)

  @nn.nowrap
  def check(self) -> None:
    """Raises a ValueError, "FIELD is X; it must be Y", if one does not fit."""
    super().check()
    if not isinstance(self.levels, Sequence) or not self.levels:
      raise ValueError(
        f"levels is {self.levels!r}; it must be integers, such as (8, 5, 5, 5)"
      )
    for i, level in enumerate(self.levels):
      # With two levels the shift of the first would be infinite.
      checks.check_count(
        f"levels[{i}]",
        level,
        minimum=3,
        maximum=_MOST_LEVELS,
        why="since no point would be rounded to the outermost of more",
      )
