"""Quantizers whose codewords are the points of a grid, which nobody stores.

Shapes: C features of z, d numbers of a point, T points.  Number i has L_i
levels, and N is the product of all L_i.
"""

from collections.abc import Sequence
import math

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

_MAX_COUNTED = 2**16  # codes that a call counts
_MAX_INDEX = 2**31 - 1


class GridQuantizer(base.Quantizer):
  """What these quantizers share.

  A code is d integers, one for each number; `to_index` makes one integer of
  them, for a model of tokens.

  A subclass has the fields `features`, `projection_init` and `axis_name`, and
  defines `alphabets`, `place`, `round` and `to_numbers`; a `loss` too, if it
  has one.
  """

  stream_name = "level"  # followed by the place of a number

  @property
  def alphabets(self) -> tuple[int, ...]:
    """How many levels each of the d numbers has."""
    raise NotImplementedError(f"{type(self).__name__}.alphabets")

  @nn.nowrap
  def place(self, points: jax.Array) -> jax.Array:
    """Returns points float32 `[T, d]` as they lie among the levels.

    The values have the gradient of the result.
    """
    raise NotImplementedError(f"{type(self).__name__}.place")

  @nn.nowrap
  def round(self, placed: jax.Array) -> jax.Array:
    """Returns the codes int32 `[T, d]` of what `place` returns."""
    raise NotImplementedError(f"{type(self).__name__}.round")

  @nn.nowrap
  def to_numbers(self, codes: jax.Array) -> jax.Array:
    """Returns the numbers float32 `[..., d]` that codes stand for."""
    raise NotImplementedError(f"{type(self).__name__}.to_numbers")

  def drop(
    self,
    codes: jax.Array,
    shape: tuple[int, ...],
    example_index: jax.Array | None,
    axis_name: str | None,
  ) -> jax.Array:
    """Returns what training uses of codes, in the same shape: all of them.

    Args:
      codes: of `round`, int32 `[T, ...]`.
      shape: of the points, `[...]`; B come first.
      example_index: what tells examples apart, int `[B]`.
      axis_name: the mapped axis over which the batch is spread.
    """
    del shape, example_index, axis_name
    return codes

  @nn.nowrap
  def loss(
    self,
    placed: jax.Array,
    error: jax.Array,
    is_real: jax.Array,
    axis_name: str | None,
  ) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Returns the loss, and metrics of it.

    Args:
      placed: of `place`, float32 `[T, d]`.
      error: the mean of what rounding changes, squared, float32 `[]`.
      is_real: which points count, bool `[T]`.
      axis_name: the mapped axis over which the batch is spread.  The mean of
        devices' losses is the loss of the batch.
    """
    del placed, error, is_real, axis_name
    return jnp.zeros((), jnp.float32), {}

  @property
  def streams(self) -> tuple[Stream, ...]:
    """The level of each number, in one group."""
    return tuple(
      Stream(f"{self.stream_name}_{i}", size, group=f"{self.stream_name}s")
      for i, size in enumerate(self.alphabets)
    )

  @property
  def codebook_size(self) -> int:
    """N, how many codes there are."""
    return math.prod(self.alphabets)

  @property
  def example_shape(self) -> tuple[int, ...]:
    """One point."""
    return (1, self._width)

  @nn.nowrap
  def to_streams(self, codes: jax.Array) -> tuple[jax.Array, ...]:
    """Returns the level of each number, int32 `[...]`."""
    self._check_codes(codes)
    codes = jnp.asarray(codes, jnp.int32)
    return tuple(codes[..., i] for i in range(len(self.alphabets)))

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
    steps = aligned(self._steps(), codes)
    return (codes * steps).sum(axis=-1, dtype=jnp.int32)

  @nn.nowrap
  def from_index(self, index: jax.Array) -> jax.Array:
    """Returns the codes int32 `[..., d]` of integers `[...]` in [0, N)."""
    checks.check_integer("index", index)
    index = jnp.asarray(index, jnp.int32)[..., None]
    return index // aligned(self._steps(), index) % self.levels_like(index)

  def setup(self):
    self.check()
    self.project_in = self.project_out = None
    if self.features is not None:
      self.project_in, self.project_out = projections.make_pair(
        self.features, len(self.alphabets), init=self.projection_init
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
    """Quantizes z.  There is no state.

    Args:
      z: floating `[..., C]`, or `[..., d]` without projections.
      train: whether codes are dropped, where the quantizer does that; and with
        `axis_name`, loss and metrics are then of the batch of all devices.
      mask: 1 for a real point and 0 for padding, `[...]`, of any dtype.
        Padding may hold anything: its code is that of zeros, it counts in no
        loss or metric, and no gradient comes from it or goes to it.  A point
        that is not finite counts as padding, whatever the mask.
      temperature: ignored, as are `draw` and `rate_weight`.
      draw: ignored.
      example_index: int `[B]`, of what is dropped.
      rate_weight: ignored.

    Returns:
      Quantized, with int32 `codes` `[..., d]`.  Of `metrics`,
      `quantization_error` is the mean over points and numbers of what rounding
      changes, squared; `nonfinite_points`; and where N is at most 65,536, the
      batch's `perplexity` (1 to N) and `usage`, the share of codes used.

    Raises:
      ValueError: if a shape, dtype or field does not fit, a mask has other
        values, or `axis_name` is no mapped axis.
    """
    del temperature, draw, rate_weight
    self._check_z(z, mask)
    is_update, axis_name = self._update_of(train)
    shape = z.shape[:-1]
    is_unmasked = masks.as_bool(mask, shape).reshape(-1)
    points, is_finite = projections.to_points(z, mask, self.project_in)
    is_real = is_unmasked & is_finite
    placed = self.place(points)
    codes = self.round(jax.lax.stop_gradient(placed))
    if is_update:
      codes = self.drop(codes, shape, example_index, axis_name)
    numbers = self.to_numbers(codes)
    error = masks.mean_square(placed, numbers, is_real, axis_name)
    loss, more_metrics = self.loss(placed, error, is_real, axis_name)
    values = projections.from_points(
      estimators.straight_through(numbers, placed), shape, self.project_out
    )
    values = masks.keep_gradient(values, is_real.reshape(shape))
    error = jax.lax.stop_gradient(error)
    if axis_name is not None:
      error = jax.lax.pmean(error, axis_name)
    return base.Quantized(
      values=values.astype(jnp.asarray(z).dtype),  # NumPy's float64 is none
      codes=codes.reshape(*shape, *codes.shape[1:]),
      loss=loss,
      metrics={
        "quantization_error": error,
        "nonfinite_points": masks.count(is_unmasked & ~is_finite, axis_name),
        **self._metrics_of_counts(codes, is_real, axis_name),
        **more_metrics,
      },
    )

  def encode(
    self, z: jax.Array, *, rate_weight: jax.Array | float | None = None
  ) -> jax.Array:
    """Returns the codes of z `[..., C]`, int32 `[..., d]`; see `__call__`."""
    del rate_weight
    self._check_z(z, None)
    points, _ = projections.to_points(z, None, self.project_in)
    codes = self.round(self.place(points))
    return codes.reshape(*z.shape[:-1], *codes.shape[1:])

  def decode(self, codes: jax.Array) -> jax.Array:
    """Returns the values float32 `[..., C]` of codes `[..., d]`, any integers.

    A level out of range gives NaN.
    """
    self._check_codes(codes)
    codes = jnp.asarray(codes, jnp.int32)
    is_level = (codes >= 0) & (codes < self.levels_like(codes))
    numbers = jnp.where(is_level, self.to_numbers(codes), jnp.nan)
    return projections.from_points(numbers, codes.shape[:-1], self.project_out)

  @nn.nowrap
  def levels_like(self, like: jax.Array) -> jax.Array:
    """Returns L of each number, in the dtype and rank of `like` `[..., d]`."""
    return aligned(np.array(self.alphabets, like.dtype), like)

  @property
  def _width(self) -> int:
    """The width of z."""
    return len(self.alphabets) if self.features is None else self.features

  @nn.nowrap
  def _steps(self) -> np.ndarray:
    """Returns by how much the index grows with each level, int32 `[d]`."""
    sizes = self.alphabets
    if self.codebook_size > _MAX_INDEX:
      raise ValueError(
        f"there are {self.codebook_size} codes; an index of 32 bits has"
        f" {_MAX_INDEX} at most, so keep the {len(sizes)} levels apart"
      )
    steps = [math.prod(sizes[:i]) for i in range(len(sizes))]
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

  @nn.nowrap
  def _check_z(self, z: jax.Array, mask: jax.Array | None) -> None:
    name = "number of levels" if self.features is None else "features"
    base.check_inputs(z, mask, self._width, f"the quantizer's {name}")

  @nn.nowrap
  def _check_codes(self, codes: jax.Array) -> None:
    checks.check_integer("codes", codes)
    why = f"one {self.stream_name} for each number of the quantizer"
    checks.check_width("codes", codes, len(self.alphabets), why)

  @nn.nowrap
  def check(self) -> None:
    """Raises a ValueError, "FIELD is X; it must be Y", if one does not fit."""
    super().check()
    if self.features is not None:
      checks.check_count("features", self.features)
    projections.check_init("projection_init", self.projection_init)
    checks.check_axis_name("axis_name", self.axis_name)


def aligned(values: np.ndarray, like: jax.Array) -> jax.Array:
  """Returns values, one for each number on the last axis, at `like`'s rank."""
  return jnp.asarray(
    values.reshape(*(1,) * (like.ndim - values.ndim), *values.shape)
  )
