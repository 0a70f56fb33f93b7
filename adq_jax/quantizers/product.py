"""Product quantization: groups of channels, each with codes of its own.

Shapes: C features of z, G groups of width W, T points.
"""

from collections.abc import Sequence
import dataclasses
import functools
from typing import Any
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from adq_jax import checks
from adq_jax import masks
from adq_jax.options import named
from adq_jax.quantizers import base
from adq_jax.quantizers import projections
from adq_jax.quantizers.collection import update_each
from adq_jax.streams import Stream

_MOST_GROUPS = 256  # each is traced, unless they share a codebook


class ProductQuantizer(base.Quantizer):
  """Splits every vector of z into groups, and quantizes each by itself.

  G groups with N codewords each have N^G codes, of which no table is kept or
  searched: G searches find the nearest one.  What quantizes a group is any
  quantizer, whose width is that of a group:

      sliced = ProductQuantizer(4, VectorQuantizer(256, 16))
      grouped_residual = ProductQuantizer(2, ResidualQuantizer(4, 1024, 32))
      grouped_fsq = ProductQuantizer(8, FSQ((8, 5, 5)), features=64)

  The first is the sliced form of Kaiser et al., 2018, "Fast Decoding in
  Sequence Models Using Discrete Latent Variables".  With `shared_codebook` it
  is that of Liu et al., 2021, "Discrete-Valued Neural Communication", section
  2.  The second is that of HiFi-Codec (Yang et al., 2023).

  Groups are consecutive channels: group g has those from g W on.

  Attributes:
    num_groups: G, at most 256.
    quantizer: what quantizes a group: a template, of which each group has a
      copy with variables of its own.
    shared_codebook: whether all groups use one copy instead, which learns from
      the parts of all groups alike.
    features: C, with 1x1 projections C -> G W and G W -> C around all groups;
      None where z has width G W itself.
    projection_init: how the projections start: as parts of the `"identity"`, or
      random as in `"pytorch"`.
    axis_name: the mapped axis over which a training batch is spread; that of
      the template is left out.

  Example:
    >>> import jax
    >>> from adq_jax import ProductQuantizer, VectorQuantizer
    >>> quantizer = ProductQuantizer(2, VectorQuantizer(16, 3))
    >>> [stream.name for stream in quantizer.streams]
    ['group_0', 'group_1']
    >>> z = jax.random.normal(jax.random.key(0), (64, 6))
    >>> variables = quantizer.init(jax.random.key(1), z)
    >>> codes = quantizer.apply(variables, z, method="encode")
    >>> codes.shape
    (64, 2)
    >>> quantizer.apply(variables, codes, method="decode").shape
    (64, 6)
  """

  num_groups: int
  quantizer: base.Quantizer
  shared_codebook: bool = False
  features: int | None = None
  projection_init: str = "identity"
  axis_name: str | None = None

  decoding_fields: ClassVar[tuple[str, ...]] = (
    "num_groups",
    "quantizer",
    "shared_codebook",
    "features",
  )

  @property
  def streams(self) -> tuple[Stream, ...]:
    """Those of the quantizer for each group, group after group."""
    own = self.quantizer.streams
    return tuple(
      _stream_of_group(g, stream, is_only=len(own) == 1)
      for g in range(self.num_groups)
      for stream in own
    )

  @property
  def draws(self) -> bool:
    """Whether the quantizer of a group draws."""
    return self.quantizer.draws

  @property
  def has_gradient(self) -> bool:
    """Whether the quantizer of a group has."""
    return self.quantizer.has_gradient

  @property
  def has_price(self) -> bool:
    """Whether bits cost anything in a group."""
    return self.quantizer.has_price

  @property
  def rng_streams(self) -> tuple[str, ...]:
    """Those of the quantizer of a group."""
    return self.quantizer.rng_streams

  @property
  def example_shape(self) -> tuple[int, ...]:
    """One point."""
    return (1, self._width if self.features is None else self.features)

  @nn.nowrap
  def to_streams(self, codes: Any) -> tuple[jax.Array, ...]:
    """Returns the codes of each stream, int32 `[...]`; see `streams`."""
    return tuple(
      value
      for own in self._of_groups(codes)
      for value in self.quantizer.to_streams(own)
    )

  @nn.nowrap
  def from_streams(self, values: Sequence[jax.Array]) -> Any:
    """Returns the codes; see `__call__`."""
    count = len(self.quantizer.streams)
    of_groups = [
      self.quantizer.from_streams(values[g * count : (g + 1) * count])
      for g in range(self.num_groups)
    ]
    return self._join(of_groups)

  @nn.nowrap
  def sent(self, k: int, earlier: Sequence[jax.Array]) -> jax.Array | None:
    """Returns where a group's stream is sent, as the quantizer says."""
    count = len(self.quantizer.streams)
    g, own = divmod(k, count)
    return self.quantizer.sent(own, earlier[g * count : k])

  def setup(self):
    self.check()
    self.project_in = self.project_out = None
    if self.features is not None:
      self.project_in, self.project_out = projections.make_pair(
        self.features, self._width, init=self.projection_init
      )
    count = 1 if self.shared_codebook else self.num_groups
    self.groups = [self._make_quantizer() for _ in range(count)]

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
    """Quantizes the groups of z.

    Args:
      z: floating `[..., C]`, or `[..., G W]` without projections.
      train: whether to update collections; by default what the field says, or
        False.  It needs the rng streams that the quantizer needs.
      mask: 1 for a real point and 0 for padding, `[...]`; see
        `VectorQuantizer`.  A point of which one number is not finite is padding
        in all groups.
      temperature: of the quantizer, as are `draw` and `example_index`.
      draw: of the quantizer.
      example_index: of the quantizer.
      rate_weight: what a bit costs beside the mean square over all G W numbers,
        a number or `[B]`: G times as much beside that of one group.  By default
        the quantizer's own, which is beside that of one group.

    Returns:
      Quantized.  Its `codes` are those of the quantizer with an axis G behind
      that of positions: int32 `[..., G]` of a `VectorQuantizer`, `[..., G, S]`
      of a `ResidualQuantizer`.  Its `loss` is the mean of the groups'.  Its
      `metrics` and `statistics` are those of the quantizer: with an axis G in
      front, and a tuple of G; or of a shared codebook, over all groups.  Of the
      metrics, `nonfinite_points` counts points, and `rate` adds up the bits of
      all groups.

    Raises:
      ValueError: if a shape, dtype or field does not fit, a mask has other
        values, or as the quantizer.
    """
    self._check_z(z, mask)
    is_update, axis_name = self._update_of(train)
    shape = z.shape[:-1]
    is_unmasked = masks.as_bool(mask, shape)
    points, is_finite = self._to_points(z, mask)
    is_real = is_unmasked & is_finite
    arguments = {
      "train": is_update,
      "temperature": temperature,
      "draw": draw,
      "example_index": example_index,
      **self._price_of_group(rate_weight),
    }
    if self.shared_codebook:
      of_each = jnp.broadcast_to(is_real[..., None], points.shape[:-1])
      (shared,) = self.groups
      results = [shared(points, mask=of_each, **arguments)]
      codes, values = results[0].codes, results[0].values
    else:
      results = [
        group(points[..., g, :], mask=is_real, **arguments)
        for g, group in enumerate(self.groups)
      ]
      codes = self._join([result.codes for result in results])
      values = jnp.stack([result.values for result in results], axis=-2)
    values = masks.keep_gradient(self._from_groups(values), is_real)
    nonfinite = masks.count(is_unmasked & ~is_finite, axis_name)
    return base.Quantized(
      values=values.astype(jnp.asarray(z).dtype),  # NumPy's float64 is none
      codes=codes,
      loss=sum(result.loss for result in results) / len(results),
      metrics={
        **self._metrics(results),
        "nonfinite_points": nonfinite,
      },
      statistics=self._statistics(results),
    )

  def update_codebook(self, statistics: Any) -> None:
    """Moves the codewords as a training step with these statistics does.

    See `VectorQuantizer.update_codebook`.

    Args:
      statistics: as a training step returns them: a tuple of those of each
        group, or those of the shared codebook.
    """
    if self.shared_codebook:
      self.groups[0].update_codebook(statistics)
    else:
      update_each(self.groups, statistics)

  def encode(
    self, z: jax.Array, *, rate_weight: jax.Array | float | None = None
  ) -> Any:
    """Returns the codes of z `[..., C]`; see `__call__`."""
    self._check_z(z, None)
    points, is_finite = self._to_points(z, None)
    # So that the point is padding in all groups.
    points = jnp.where(is_finite[..., None, None], points, jnp.nan)
    price = self._price_of_group(rate_weight)
    if self.shared_codebook:
      return self.groups[0].encode(points, **price)
    return self._join(
      [
        group.encode(points[..., g, :], **price)
        for g, group in enumerate(self.groups)
      ]
    )

  def decode(self, codes: Any) -> jax.Array:
    """Returns the values float32 `[..., C]` of codes; see `__call__`."""
    of_groups = self._of_groups(codes)
    if self.shared_codebook:
      return self._from_groups(self.groups[0].decode(codes))
    values = [
      group.decode(own)
      for group, own in zip(self.groups, of_groups, strict=True)
    ]
    return self._from_groups(jnp.stack(values, axis=-2))

  @property
  def _width(self) -> int:
    """G W."""
    return self.num_groups * self.quantizer.example_shape[-1]

  @nn.nowrap
  def _make_quantizer(self) -> base.Quantizer:
    own = {} if self.axis_name is None else {"axis_name": self.axis_name}
    return self.quantizer.clone(parent=None, **own)

  def _to_points(
    self, z: jax.Array, mask: jax.Array | None
  ) -> tuple[jax.Array, jax.Array]:
    """Returns groups float32 `[..., G, W]`, and which points are finite."""
    points, is_finite = projections.to_points(z, mask, self.project_in)
    width = self._width // self.num_groups
    shape = z.shape[:-1]
    points = points.reshape(*shape, self.num_groups, width)
    return points, is_finite.reshape(shape)

  def _from_groups(self, values: jax.Array) -> jax.Array:
    """Returns the values float32 `[..., C]` of groups `[..., G, W]`."""
    points = values.reshape(-1, self._width)
    return projections.from_points(points, values.shape[:-2], self.project_out)

  @nn.nowrap
  def _price_of_group(
    self, rate_weight: jax.Array | float | None
  ) -> dict[str, jax.Array]:
    """Returns what a bit costs beside the mean square of one group."""
    if rate_weight is None or not self.has_price:
      return {}
    checks.check_not_negative("rate_weight", rate_weight, is_finite=True)
    weight = jnp.asarray(rate_weight, jnp.float32)
    return {"rate_weight": self.num_groups * weight}

  @nn.nowrap
  def _metrics(self, results: Sequence[base.Quantized]) -> dict[str, jax.Array]:
    metrics = results[0].metrics
    if not self.shared_codebook:
      of_each = [result.metrics for result in results]
      metrics = jax.tree.map(lambda *x: jnp.stack(x), *of_each)
    if "rate" in metrics:
      rate = self.num_groups * metrics["rate"].mean()
      metrics = {**metrics, "rate": rate}
    return metrics

  @nn.nowrap
  def _statistics(self, results: Sequence[base.Quantized]) -> Any:
    if self.shared_codebook or results[0].statistics is None:
      return results[0].statistics
    return tuple(result.statistics for result in results)

  @nn.nowrap
  def _ranks(self) -> Any:
    """Returns how many axes a group's codes have behind those of positions."""
    numbers = [jnp.zeros((), jnp.int32) for _ in self.quantizer.streams]
    codes = jax.eval_shape(
      functools.partial(self.quantizer.from_streams, numbers)
    )
    return jax.tree.map(lambda x: x.ndim, codes)

  @nn.nowrap
  def _join(self, of_groups: Sequence[Any]) -> Any:
    """Returns codes with the axis G, of those of each group."""
    return jax.tree.map(
      lambda rank, *x: jnp.stack(x, axis=x[0].ndim - rank),
      self._ranks(),
      *of_groups,
    )

  @nn.nowrap
  def _of_groups(self, codes: Any) -> list[Any]:
    """Returns the codes of each group.

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

  @nn.nowrap
  def _check_z(self, z: jax.Array, mask: jax.Array | None) -> None:
    name = "groups' width" if self.features is None else "features"
    width = self._width if self.features is None else self.features
    base.check_inputs(z, mask, width, f"the quantizer's {name}")

  @nn.nowrap
  def check(self) -> None:
    """Raises a ValueError, "FIELD is X; it must be Y", if one does not fit."""
    super().check()
    checks.check_count("num_groups", self.num_groups)
    if self.num_groups > _MOST_GROUPS:
      raise ValueError(
        f"num_groups is {self.num_groups}; it must be at most {_MOST_GROUPS}"
      )
    checks.check_bool("shared_codebook", self.shared_codebook)
    if self.features is not None:
      checks.check_count("features", self.features)
    projections.check_init("projection_init", self.projection_init)
    checks.check_axis_name("axis_name", self.axis_name)
    if not isinstance(self.quantizer, base.Quantizer):
      raise ValueError(
        f"quantizer is {self.quantizer!r:.200}; it must be a Quantizer, such as"
        " VectorQuantizer(256, 16)"
      )
    with named("quantizer"):
      self.quantizer.check()
      self._check_template()

  @nn.nowrap
  def _check_template(self) -> None:
    for name in ("axis_name", "train"):
      value = getattr(self.quantizer, name)
      if value is not None:
        raise ValueError(
          f"{name} is {value!r}; it must be None, as the groups have the {name}"
          " of the whole"
        )
    if self.quantizer.spatial_axes:
      raise ValueError(
        f"spatial_axes is {self.quantizer.spatial_axes}; it must be 0: a"
        " group's positions have to stand for themselves"
      )


def _stream_of_group(g: int, stream: Stream, *, is_only: bool) -> Stream:
  prefix = f"group_{g}"
  name = prefix if is_only else f"{prefix}_{stream.name}"
  group = stream.group and f"{prefix}_{stream.group}"
  return dataclasses.replace(stream, name=name, group=group)
