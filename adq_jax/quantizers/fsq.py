"""Finite scalar quantization (Mentzer et al., 2023).

Shapes: C features of z, d numbers of a point, T points.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import math
import types
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from adq_jax import checks
from adq_jax import masks
from adq_jax import metrics
from adq_jax.codebook.statistics import code_counts
from adq_jax.quantizers import base
from adq_jax.quantizers import estimators
from adq_jax.quantizers import projections
from adq_jax.streams import Stream

_MARGIN = 1e-3  # the paper's; tanh comes as near to the outermost levels
_MOST_LEVELS = 1000  # of which it reaches the outermost
_MAX_COUNTED = 2**16  # codes that a call counts
_MAX_INDEX = 2**31 - 1


class FSQ(base.Quantizer):
  """Rounds each of a few numbers to one of a few levels.

  There is no codebook: the codes are the points of a grid, and nothing but the
  networks around it learns.  So no code can die.

      quantizer = FSQ(FSQ.recommended[10], features=64)  # about 2^10 codes

  A code is d integers, one for each number; `to_index` makes one integer of
  them, for a model of tokens.

  Attributes:
    levels: L of each of the d numbers, each from 3 to 1,000.
    recommended: the paper's levels for about 2^b codes, by b.
    features: C, with 1x1 projections C -> d and d -> C around the rounding;
      None where z has width d itself.
    projection_init: how the projections start: as parts of the `"identity"`, or
      random as in `"pytorch"`.
    axis_name: the mapped axis over which a training batch is spread.

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
  def streams(self) -> tuple[Stream, ...]:
    """The level of each number, in one group."""
    return tuple(
      Stream(f"level_{i}", alphabet, group="levels")
      for i, alphabet in enumerate(self.levels)
    )

  @property
  def example_shape(self) -> tuple[int, ...]:
    """One point."""
    return (1, self._width)

  @property
  def codebook_size(self) -> int:
    """N, how many codes there are: the product of the levels."""
    return math.prod(self.levels)

  @nn.nowrap
  def to_streams(self, codes: jax.Array) -> tuple[jax.Array, ...]:
    """Returns the level of each number, int32 `[...]`."""
    self._check_codes(codes)
    codes = jnp.asarray(codes, jnp.int32)
    return tuple(codes[..., i] for i in range(len(self.levels)))

  @nn.nowrap
  def from_streams(self, values: Sequence[jax.Array]) -> jax.Array:
    """Returns the codes, int32 `[..., d]`."""
    return jnp.stack(values, axis=-1)

  @nn.nowrap
  def to_index(self, codes: jax.Array) -> jax.Array:
    """Returns one integer for each code: the first number counts by ones.

    Args:
      codes: integers `[..., d]`.

    Returns:
      int32 `[...]`, in [0, N).

    Raises:
      ValueError: if N is above 2^31 - 1, or the codes do not fit.
    """
    self._check_codes(codes)
    codes = jnp.asarray(codes, jnp.int32)
    steps = _aligned(self._steps(), codes)
    return (codes * steps).sum(axis=-1, dtype=jnp.int32)

  @nn.nowrap
  def from_index(self, index: jax.Array) -> jax.Array:
    """Returns the codes int32 `[..., d]` of integers `[...]` in [0, N)."""
    checks.check_integer("index", index)
    index = jnp.asarray(index, jnp.int32)[..., None]
    return index // _aligned(self._steps(), index) % self._levels(index)

  def setup(self):
    self.check()
    self.project_in = self.project_out = None
    if self.features is not None:
      self.project_in, self.project_out = projections.make_pair(
        self.features, len(self.levels), init=self.projection_init
      )

  def __call__(
    self,
    z: jax.Array,
    *,
    train: bool | None = None,
    mask: jax.Array | None = None,
    temperature: jax.Array | float = 1.0,
    draw: bool | jax.Array | None = None,
    example_index: jax.Array | None = None,
    rate_weight: jax.Array | float | None = None,
  ) -> base.Quantized:
    """Quantizes z.  There is no state, and no loss of its own.

    The gradient goes through the rounding as if it were none, but it goes
    through the tanh before that, which takes it from large numbers.

    Args:
      z: floating `[..., C]`, or `[..., d]` without projections.
      train: ignored but for `axis_name`: in training, metrics are of the batch
        of all devices.
      mask: 1 for a real point and 0 for padding, `[...]`, of any dtype.
        Padding may hold anything: its code is that of zeros, it counts in no
        metric, and no gradient comes from it or goes to it.  A point that is
        not finite counts as padding, whatever the mask.
      temperature: ignored, as are the arguments after it.
      draw: ignored.
      example_index: ignored.
      rate_weight: ignored.

    Returns:
      Quantized, with int32 `codes` `[..., d]` and a `loss` of 0.  Of `metrics`,
      `quantization_error` is the mean over points and numbers of what rounding
      changes; `nonfinite_points`; and where N is at most 65,536, the batch's
      `perplexity` (1 to N) and `usage`, the share of codes used.

    Raises:
      ValueError: if a shape, dtype or field does not fit, a mask has other
        values, or `axis_name` is no mapped axis.
    """
    del temperature, draw, example_index, rate_weight
    self._check_z(z, mask)
    _, axis_name = self._update_of(train)
    shape = z.shape[:-1]
    is_unmasked = masks.as_bool(mask, shape).reshape(-1)
    points, is_finite = projections.to_points(z, mask, self.project_in)
    is_real = is_unmasked & is_finite
    bounded = self._bounded(points)
    codes = self._to_codes(bounded)
    numbers = self._to_numbers(codes)
    unrounded = bounded / (self._levels(bounded) // 2)
    error = jax.lax.stop_gradient(
      masks.mean_square(unrounded, numbers, is_real, axis_name)
    )
    if axis_name is not None:
      error = jax.lax.pmean(error, axis_name)
    values = projections.from_points(
      estimators.straight_through(numbers, unrounded), shape, self.project_out
    )
    values = masks.keep_gradient(values, is_real.reshape(shape))
    return base.Quantized(
      values=values.astype(jnp.asarray(z).dtype),  # NumPy's float64 is none
      codes=codes.reshape(*shape, len(self.levels)),
      loss=jnp.zeros((), jnp.float32),
      metrics={
        "quantization_error": error,
        "nonfinite_points": masks.count(is_unmasked & ~is_finite, axis_name),
        **self._metrics_of_counts(codes, is_real, axis_name),
      },
    )

  def encode(
    self, z: jax.Array, *, rate_weight: jax.Array | float | None = None
  ) -> jax.Array:
    """Returns the codes of z `[..., C]`, int32 `[..., d]`; see `__call__`."""
    del rate_weight
    self._check_z(z, None)
    points, _ = projections.to_points(z, None, self.project_in)
    codes = self._to_codes(self._bounded(points))
    return codes.reshape(*z.shape[:-1], len(self.levels))

  def decode(self, codes: jax.Array) -> jax.Array:
    """Returns the values float32 `[..., C]` of codes `[..., d]`, any integers.

    A level out of range gives NaN.
    """
    self._check_codes(codes)
    codes = jnp.asarray(codes, jnp.int32)
    is_level = (codes >= 0) & (codes < self._levels(codes))
    numbers = jnp.where(is_level, self._to_numbers(codes), jnp.nan)
    return projections.from_points(numbers, codes.shape[:-1], self.project_out)

  @nn.nowrap
  def _bounded(self, points: jax.Array) -> jax.Array:
    """Returns points `[..., d]` between the levels, which are whole numbers.

    Of L levels the lowest is -(L // 2).
    """
    levels = np.array(self.levels)
    half = (levels - 1) * (1 - _MARGIN) / 2
    # An even number of levels has no middle one: zero is half a level too high.
    offset = np.where(levels % 2, 0.0, 0.5) / half
    # The paper's listing has tan here, which keeps zero only nearly in place.
    shift = np.arctanh(offset)
    half, offset, shift = (
      _aligned(x.astype(np.float32), points) for x in (half, offset, shift)
    )
    # Nothing is added to a product, which compilers may round once or twice.
    return (jnp.tanh(points + shift) - offset) * half

  @nn.nowrap
  def _to_codes(self, bounded: jax.Array) -> jax.Array:
    codes = jnp.round(bounded).astype(jnp.int32)
    return codes + self._levels(codes) // 2

  @nn.nowrap
  def _to_numbers(self, codes: jax.Array) -> jax.Array:
    """Returns the numbers that levels stand for, in [-1, 1]."""
    half = self._levels(codes) // 2
    return (codes - half).astype(jnp.float32) / half.astype(jnp.float32)

  @nn.nowrap
  def _levels(self, like: jax.Array) -> jax.Array:
    """Returns L of each number, in the dtype and rank of `like` `[..., d]`."""
    return _aligned(np.array(self.levels, like.dtype), like)

  @nn.nowrap
  def _steps(self) -> np.ndarray:
    """Returns by how much the index grows with each level, int32 `[d]`."""
    if self.codebook_size > _MAX_INDEX:
      raise ValueError(
        f"levels is {self.levels}, which makes {self.codebook_size} codes; an"
        f" index of 32 bits has {_MAX_INDEX} at most, so keep the levels apart"
      )
    steps = [math.prod(self.levels[:i]) for i in range(len(self.levels))]
    return np.array(steps, np.int32)

  @nn.nowrap
  def _metrics_of_counts(
    self, codes: jax.Array, is_real: jax.Array, axis_name: str | None
  ) -> dict[str, jax.Array]:
    if self.codebook_size > _MAX_COUNTED:
      return {}
    counts = code_counts(
      self.to_index(codes),
      self.codebook_size,
      mask=is_real,
      axis_name=axis_name,
    )
    return {
      "perplexity": metrics.perplexity(counts),
      "usage": metrics.usage(counts),
    }

  @property
  def _width(self) -> int:
    """The width of z."""
    return len(self.levels) if self.features is None else self.features

  @nn.nowrap
  def _check_z(self, z: jax.Array, mask: jax.Array | None) -> None:
    name = "number of levels" if self.features is None else "features"
    base.check_inputs(z, mask, self._width, f"the quantizer's {name}")

  @nn.nowrap
  def _check_codes(self, codes: jax.Array) -> None:
    checks.check_integer("codes", codes)
    why = "one integer for each of the quantizer's levels"
    checks.check_width("codes", codes, len(self.levels), why)

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
      checks.check_count(f"levels[{i}]", level, minimum=3)
      if level > _MOST_LEVELS:
        raise ValueError(
          f"levels[{i}] is {level}; it must be at most {_MOST_LEVELS}, since no"
          " point would be rounded to the outermost of more"
        )
    if self.features is not None:
      checks.check_count("features", self.features)
    projections.check_init("projection_init", self.projection_init)
    checks.check_axis_name("axis_name", self.axis_name)


def _aligned(values: np.ndarray, like: jax.Array) -> jax.Array:
  """Returns a value for each number, `[..., d]`, of the rank of `like`."""
  return jnp.asarray(values.reshape(*(1,) * (like.ndim - 1), -1))
