"""Finite scalar quantization in stages.

Shapes: C features of z, d numbers of a point, S stages, T points.  Number i has
L_i levels in each stage.
"""

from collections.abc import Sequence
import dataclasses
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from adq_jax import checks
from adq_jax import masks
from adq_jax.quantizers import fsq
from adq_jax.quantizers import grid
from adq_jax.quantizers import projections
from adq_jax.quantizers import stages as of_stages
from adq_jax.streams import Stream

_MOST_CELLS = 2**24  # integers up to here are exact in float32


class ResidualFSQ(fsq.FSQ):
  """Rounds each of a few numbers to levels, and to finer ones in every stage.

  The first stage is `FSQ`.  It leaves a number within half a step of a level.
  Each stage after it cuts what the stage before it has left into L equal cells,
  and takes the middle of one.  So L^S levels, all of them a step of 1 / L^(S-1)
  apart, take S times the bits of L.

  The first codes of a point are a coarser code of it, and the best that there
  is: `decode(codes, num_stages=2)` gives the values of two stages.  Codes that
  are -1 from some stage on decode so, too.

      quantizer = ResidualFSQ((8, 5, 5), num_stages=3, features=64)

  The tanh is that of the first stage, and residuals are those of what it gives,
  so that they are never larger than a stage reaches.  The values of all stages
  have one gradient, that of `FSQ`.

  Where a residual is multiplied by L - 1 for each stage and goes through a tanh
  again, as in vector-quantize-pytorch, cells of one level reach into those of
  the next, and the tanh moves what is rounded.

  Attributes:
    levels: L of each of the d numbers, each from 3 to 1,000.
    features: C, with 1x1 projections C -> d and d -> C around the rounding;
      None where z has width d itself.
    projection_init: how the projections start: as parts of the `"identity"`, or
      random as in `"pytorch"`.
    axis_name: the mapped axis over which a training batch is spread.
    num_stages: S, by keyword.  No L^S may be above 2^24; from about 2^20 on,
      float32 decides the last codes.
    stage_dropout: the share of examples that use a sampled number of stages in
      training, from 1 to S, so that a decoder learns to read all prefixes.  It
      needs the rng stream `"dropout"`.

  Example:
    >>> import jax.numpy as jnp
    >>> from adq_jax import ResidualFSQ
    >>> quantizer = ResidualFSQ((5,), num_stages=2)
    >>> result = quantizer.apply({}, jnp.array([[0.3]]))
    >>> print(result.values, result.codes)
    [[0.3]] [[[3]
      [0]]]
    >>> print(quantizer.apply({}, result.codes, num_stages=1, method="decode"))
    [[0.5]]
  """

  num_stages: int = dataclasses.field(kw_only=True)
  stage_dropout: float = dataclasses.field(default=0.0, kw_only=True)

  decoding_fields: ClassVar[tuple[str, ...]] = (
    "levels",
    "features",
    "num_stages",
  )

  @property
  def streams(self) -> tuple[Stream, ...]:
    """The level of each number in each stage, with a group for each stage."""
    return tuple(
      Stream(f"stage_{s}_level_{i}", level, group=f"stage_{s}")
      for s in range(self.num_stages)
      for i, level in enumerate(self.levels)
    )

  @property
  def rng_streams(self) -> tuple[str, ...]:
    """`"dropout"`, where stages are dropped."""
    return ("dropout",) if self.stage_dropout else ()

  @nn.nowrap
  def to_streams(self, codes: jax.Array) -> tuple[jax.Array, ...]:
    """Returns the level of each number, int32 `[...]`, stage after stage."""
    self._check_stages(codes)
    codes = jnp.asarray(codes, jnp.int32)
    return tuple(
      codes[..., s, i]
      for s in range(self.num_stages)
      for i in range(len(self.levels))
    )

  @nn.nowrap
  def from_streams(self, values: Sequence[jax.Array]) -> jax.Array:
    """Returns the codes, int32 `[..., S, d]`."""
    codes = jnp.stack(values, axis=-1)
    return codes.reshape(*codes.shape[:-1], self.num_stages, len(self.levels))

  @nn.nowrap
  def round(self, placed: jax.Array) -> jax.Array:
    """Returns the codes int32 `[T, S, d]` of what `place` returns."""
    levels, cells = np.array(self.levels), self._cells()
    per_level, middle = cells[0], cells[0] // 2
    # In cells of the last stage, of which a level of the first is the middle:
    # of an odd number the middle one, of an even number between two.  One
    # product is rounded for all stages, so that nothing is added to it.
    scaled = placed * grid.aligned(
      (levels // 2 * per_level).astype(np.float32), placed
    )
    is_odd = grid.aligned(per_level % 2 == 1, placed)
    nearest = jnp.where(is_odd, jnp.round(scaled), jnp.floor(scaled))
    first = (levels // 2 * per_level + middle).astype(np.int32)
    cell = nearest.astype(jnp.int32) + grid.aligned(first, placed)
    cell = cell[:, None]
    return cell // grid.aligned(cells, cell) % self.levels_like(cell)

  @nn.nowrap
  def to_numbers(self, codes: jax.Array) -> jax.Array:
    """Returns the numbers float32 `[..., d]` of codes `[..., S, d]`.

    A stage whose codes are -1 adds nothing.
    """
    levels, cells = np.array(self.levels, np.int32), self._cells()
    # Twice the middle of a stage's codes; that of the first is a level.
    middles = np.stack([levels // 2 * 2] + [levels - 1] * (self.num_stages - 1))
    # In half cells of the last stage they are integers.
    added = (2 * codes - grid.aligned(middles, codes)) * grid.aligned(
      cells, codes
    )
    total = masks.keep(added, of_stages.is_used(codes)).sum(
      axis=-2, dtype=jnp.int32
    )
    outermost = (levels // 2 * 2 * cells[0]).astype(np.float32)
    return total.astype(jnp.float32) / grid.aligned(outermost, total)

  def drop(
    self,
    codes: jax.Array,
    shape: tuple[int, ...],
    example_index: jax.Array | None,
    axis_name: str | None,
  ) -> jax.Array:
    """Returns codes int32 `[T, S, d]`, -1 from some stage of examples on."""
    if not self.stage_dropout:
      return codes
    depths = of_stages.draw_depths(self, shape, example_index, axis_name)
    return self._first(codes, depths[:, None, None])

  @nn.nowrap
  def loss(
    self,
    placed: jax.Array,
    error: jax.Array,
    is_real: jax.Array,
    axis_name: str | None,
  ) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Returns no loss, and the error after each stage, `[S]`."""
    del error
    placed = jax.lax.stop_gradient(placed)
    codes = self.round(placed)
    errors = jnp.stack(
      [
        masks.mean_square(
          placed, self.to_numbers(self._first(codes, s + 1)), is_real, axis_name
        )
        for s in range(self.num_stages)
      ]
    )
    if axis_name is not None:
      errors = jax.lax.pmean(errors, axis_name)
    return jnp.zeros((), jnp.float32), {"quantization_error": errors}

  def decode(
    self, codes: jax.Array, num_stages: int | None = None
  ) -> jax.Array:
    """Returns the values float32 `[..., C]` of codes `[..., S, d]`.

    Args:
      codes: any integers.  A level may be -1, which adds nothing; another one
        out of range gives NaN.
      num_stages: how many of the first stages to add; None: all S.

    Raises:
      ValueError: if the codes are no integers `[..., S, d]`, or there are not
        so many stages.
    """
    self._check_stages(codes)
    num_stages = of_stages.number_decoded(num_stages, self.num_stages)
    codes = self._first(jnp.asarray(codes, jnp.int32), num_stages)
    is_level = (codes >= of_stages.NOTHING) & (codes < self.levels_like(codes))
    numbers = self.to_numbers(codes)
    numbers = jnp.where(is_level.all(axis=-2), numbers, jnp.nan)
    return projections.from_points(numbers, codes.shape[:-2], self.project_out)

  @nn.nowrap
  def _first(self, codes: jax.Array, num_stages: jax.Array | int) -> jax.Array:
    """Returns codes int32 `[..., S, d]`, -1 but for the first stages."""
    stage = jax.lax.broadcasted_iota(jnp.int32, codes.shape, codes.ndim - 2)
    return jnp.where(stage < num_stages, codes, of_stages.NOTHING)

  @nn.nowrap
  def _cells(self) -> np.ndarray:
    """Returns how many of the last cells one of each stage is, int32 `[S, d]`.

    A stage is a digit of the number of a cell, the first one the highest.
    """
    exponents = np.arange(self.num_stages)[::-1]
    cells = np.array(self.levels)[None] ** exponents[:, None]
    return cells.astype(np.int32)

  @nn.nowrap
  def _metrics_of_counts(
    self, codes: jax.Array, is_real: jax.Array, axis_name: str | None
  ) -> dict[str, jax.Array]:
    """Returns metrics of each stage, `[S]`."""
    each = []
    for s in range(self.num_stages):
      is_counted = is_real & of_stages.is_used(codes[:, s, 0])
      own = super()._metrics_of_counts(codes[:, s], is_counted, axis_name)
      each.append(own)
    return jax.tree.map(lambda *x: jnp.stack(x), *each)

  @nn.nowrap
  def _check_stages(self, codes: jax.Array) -> None:
    self._check_codes(codes)
    if codes.ndim < 2 or codes.shape[-2] != self.num_stages:
      raise ValueError(
        f"codes has shape {codes.shape}; its last axes must be"
        f" ({self.num_stages}, {len(self.levels)}), stages and numbers"
      )

  @nn.nowrap
  def check(self) -> None:
    """Raises a ValueError, "FIELD is X; it must be Y", if one does not fit."""
    super().check()
    checks.check_count("num_stages", self.num_stages)
    of_stages.check_dropout(self.stage_dropout)
    level = max(self.levels)
    if level**self.num_stages > _MOST_CELLS:
      raise ValueError(
        f"num_stages is {self.num_stages}; it must be fewer, since float32 does"
        f" not tell {level}^{self.num_stages} levels apart"
      )
