"""Product quantization: groups of channels, each with codes of its own.

Shapes: C features of z, G groups of width W, T points.
"""

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
from typing import Any
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from adq_jax import checks
from adq_jax import masks
from adq_jax.options import check_option
from adq_jax.options import named
from adq_jax.quantizers import base
from adq_jax.quantizers import constants
from adq_jax.quantizers import group_template
from adq_jax.quantizers import kept as of_kept
from adq_jax.quantizers import projections
from adq_jax.quantizers import splits
from adq_jax.quantizers import stages as of_stages
from adq_jax.quantizers import tariff as tariffs
from adq_jax.quantizers.collection import update_each
from adq_jax.quantizers.group_codes import GroupCodes
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

  Groups are consecutive channels: group g has those from g W on.  With
  `split=RandomProjections()` each sees a random projection of all channels
  instead, the projected form of Kaiser et al.

  With `kept=RandomKept()` positions may keep fewer groups than others, the
  first ones, after Baldassarre et al., 2023, "Variable Rate Allocation for
  Vector-Quantized Autoencoders".  A group that is dropped becomes a learned
  vector, and the number kept is a stream of its own.  Training draws it.  In
  evaluation `num_kept` says it, such as by a map of what is salient; or it is
  the one that is worth its bits.

  Attributes:
    num_groups: G, at most 256.
    quantizer: what quantizes a group: a template, of which each group has a
      copy with variables of its own.
    shared_codebook: whether all groups use one copy instead, which learns from
      the parts of all groups alike.
    kept: how many groups a position keeps: `AllKept` or `RandomKept`, for a
      quantizer without a price, all of whose streams are sent as they are.
    split: what a group sees: its `Slices`, or `RandomProjections`.
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
  kept: of_kept.AbstractKept = of_kept.AllKept()
  split: splits.AbstractSplit = splits.Slices()
  features: int | None = None
  projection_init: str = "identity"
  axis_name: str | None = None

  decoding_fields: ClassVar[tuple[str, ...]] = (
    "num_groups",
    "quantizer",
    "shared_codebook",
    "kept",
    "features",
  )

  @property
  def streams(self) -> tuple[Stream, ...]:
    """Those of each group, after the number kept where that is variable."""
    own = self.quantizer.streams
    of_groups = tuple(
      stream
      for g in range(self.num_groups)
      for stream in group_template.streams_of(g, own)
    )
    if not self.kept.is_variable:
      return of_groups
    # A group of streams has a code everywhere.
    of_groups = tuple(dataclasses.replace(x, group="") for x in of_groups)
    return (of_kept.make_stream(self.num_groups), *of_groups)

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
    """Whether bits cost anything in a group, or decide how many are kept."""
    return self.kept.is_variable or self.quantizer.has_price

  @property
  def rng_streams(self) -> tuple[str, ...]:
    """Those of a group, and `"dropout"` where the number kept is drawn."""
    drawn = ("dropout",) if self.kept.is_variable else ()
    return tuple(dict.fromkeys((*drawn, *self.quantizer.rng_streams)))

  @property
  def example_shape(self) -> tuple[int, ...]:
    """One point."""
    return (1, self._width if self.features is None else self.features)

  @nn.nowrap
  def to_streams(self, codes: Any) -> tuple[jax.Array, ...]:
    """Returns the codes of each stream, int32 `[...]`; see `streams`."""
    if not self.kept.is_variable:
      return tuple(
        value
        for own in self._codes.split(codes)
        for value in self.quantizer.to_streams(own)
      )
    is_kept = self._codes.is_kept(codes)
    codes = self._codes.cut(codes, is_kept, 0)
    values = [
      jnp.where(is_kept[..., g], value, 0)
      for g, own in enumerate(self._codes.split(codes))
      for value in self.quantizer.to_streams(own)
    ]
    return (is_kept.sum(axis=-1, dtype=jnp.int32) - 1, *values)

  @nn.nowrap
  def from_streams(self, values: Sequence[jax.Array]) -> Any:
    """Returns the codes; see `__call__`."""
    count, skip = len(self.quantizer.streams), int(self.kept.is_variable)
    of_groups = [
      self.quantizer.from_streams(values[g : g + count])
      for g in range(skip, skip + self.num_groups * count, count)
    ]
    codes = self._codes.join(of_groups)
    if not skip:
      return codes
    num_kept = jnp.asarray(values[0], jnp.int32) + 1
    is_kept = of_kept.is_prefix(num_kept, self.num_groups)
    return self._codes.cut(codes, is_kept, of_stages.NOTHING)

  @nn.nowrap
  def sent(self, k: int, earlier: Sequence[jax.Array]) -> jax.Array | None:
    """Returns where a group's stream is sent, as the quantizer says."""
    count = len(self.quantizer.streams)
    if self.kept.is_variable:  # then a group that is kept sends all of them
      return earlier[0] >= (k - 1) // count if k else None
    g, own = divmod(k, count)
    return self.quantizer.sent(own, earlier[g * count : k])

  def setup(self):
    self.check()
    self.project_in = self.project_out = None
    if self.features is not None:
      self.project_in, self.project_out = projections.make_pair(
        self.features, self._width, init=self.projection_init
      )
    self.constants = {
      name: constants.make(self, name, initializer, shape)
      for name, (initializer, shape) in self.split.constants(
        self.num_groups, self._width // self.num_groups
      ).items()
    }
    count = 1 if self.shared_codebook else self.num_groups
    self.groups = [self._make_quantizer() for _ in range(count)]
    if self.kept.is_variable:
      shape = (self.num_groups, self._width // self.num_groups)
      zeros = nn.initializers.zeros_init()
      self.dropped = self.param("dropped", zeros, shape, jnp.float32)

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
    num_kept: jax.Array | int | None = None,
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
        the quantizer's own, which is beside that of one group.  Where the
        number kept is variable, evaluation keeps those groups that are worth
        their bits; by default at the price that `kept` says.
      num_kept: how many of the first groups to keep, where it is variable: an
        integer, or one for each position, `[...]`; taken as 1 or G where it is
        less or more.  By default drawn in training, with the rng stream
        `"dropout"` and `example_index`; else as `rate_weight` says.

    Returns:
      Quantized.  Its `codes` are those of the quantizer with an axis G behind
      that of positions: int32 `[..., G]` of a `VectorQuantizer`, `[..., G, S]`
      of a `ResidualQuantizer`; -1 of a group that is dropped.  Its `loss` is
      the mean of the groups', over the points that keep them.  Its
      `metrics` and `statistics` are those of the quantizer: with an axis G in
      front, and a tuple of G; or of a shared codebook, over all groups.  Of the
      metrics, `nonfinite_points` counts points, and `rate` adds up the bits of
      all groups.  Where the number kept is variable, `rate` is the mean of the
      bits of kept groups, and `selection` `[G]` the share of each number.

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
    num_kept = self._num_kept(
      points,
      lambda: self._search(points, is_finite, None),
      is_update,
      num_kept,
      rate_weight,
      example_index,
    )
    of_each = jnp.broadcast_to(is_real[..., None], points.shape[:-1])
    if num_kept is not None:
      is_kept = of_kept.is_prefix(num_kept, self.num_groups)
      of_each &= is_kept
    arguments = {
      "train": is_update,
      "temperature": temperature,
      "draw": draw,
      "example_index": example_index,
      **self._price_of_group(rate_weight),
    }
    if self.shared_codebook:
      (shared,) = self.groups
      results = [shared(points, mask=of_each, **arguments)]
      codes, values = results[0].codes, results[0].values
    else:
      results = [
        group(points[..., g, :], mask=of_each[..., g], **arguments)
        for g, group in enumerate(self.groups)
      ]
      codes = self._codes.join([result.codes for result in results])
      values = jnp.stack([result.values for result in results], axis=-2)
    metrics = self._metrics(results)
    if num_kept is not None:
      codes = self._codes.cut(codes, is_kept, of_stages.NOTHING)
      values = self._with_dropped(values, is_kept)
      metrics |= of_kept.metrics_of(
        num_kept, self.num_groups, self._bits, is_real, axis_name
      )
    values = masks.keep_gradient(self._from_groups(values), is_real)
    nonfinite = masks.count(is_unmasked & ~is_finite, axis_name)
    return base.Quantized(
      values=values.astype(jnp.asarray(z).dtype),  # NumPy's float64 is none
      codes=codes,
      loss=self._loss(results, of_each, axis_name),
      metrics={**metrics, "nonfinite_points": nonfinite},
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
    self,
    z: jax.Array,
    *,
    rate_weight: jax.Array | float | None = None,
    num_kept: jax.Array | int | None = None,
  ) -> Any:
    """Returns the codes of z `[..., C]`; see `__call__`."""
    self._check_z(z, None)
    points, is_finite = self._to_points(z, None)
    codes = self._search(points, is_finite, rate_weight)
    num_kept = self._num_kept(
      points, lambda: codes, False, num_kept, rate_weight
    )
    if num_kept is None:
      return codes
    is_kept = of_kept.is_prefix(num_kept, self.num_groups)
    return self._codes.cut(codes, is_kept, of_stages.NOTHING)

  def decode(self, codes: Any) -> jax.Array:
    """Returns the values float32 `[..., C]` of codes; see `__call__`."""
    if not self.kept.is_variable:
      return self._from_groups(self._take(codes))
    is_kept = self._codes.is_kept(codes)
    values = self._take(self._codes.cut(codes, is_kept, 0))
    return self._from_groups(self._with_dropped(values, is_kept))

  def _search(
    self,
    points: jax.Array,
    is_finite: jax.Array,
    rate_weight: jax.Array | float | None,
  ) -> Any:
    """Returns the codes of groups float32 `[..., G, W]`, as if all are kept."""
    # So that the point is padding in all groups.
    points = jnp.where(is_finite[..., None, None], points, jnp.nan)
    price = self._price_of_group(rate_weight)
    if self.shared_codebook:
      return self.groups[0].encode(points, **price)
    return self._codes.join(
      [
        group.encode(points[..., g, :], **price)
        for g, group in enumerate(self.groups)
      ]
    )

  def _take(self, codes: Any) -> jax.Array:
    """Returns the groups float32 `[..., G, W]` of codes, all of them kept."""
    of_groups = self._codes.split(codes)
    if self.shared_codebook:
      return self.groups[0].decode(codes)
    values = [
      group.decode(own)
      for group, own in zip(self.groups, of_groups, strict=True)
    ]
    return jnp.stack(values, axis=-2)

  def _with_dropped(self, values: jax.Array, is_kept: jax.Array) -> jax.Array:
    """Returns groups `[..., G, W]`, with learned ones for those not kept."""
    dropped = jnp.broadcast_to(self._dropped, values.shape)
    return jnp.where(is_kept[..., None], values, dropped)

  @property
  def _dropped(self) -> jax.Array:
    return self.dropped.astype(jnp.float32)

  def _num_kept(
    self,
    points: jax.Array,
    search: Callable[[], Any],
    is_update: bool,
    given: jax.Array | int | None,
    rate_weight: jax.Array | float | None,
    example_index: jax.Array | None = None,
  ) -> jax.Array | None:
    """Returns how many groups to keep, int32 `[...]`; None: it is no choice.

    Args:
      points: float32 `[..., G, W]`.
      search: returns their codes, as if all groups are kept.
      is_update: whether training draws it.
      given: the argument `num_kept`.
      rate_weight: what a bit costs.
      example_index: of the draw.
    """
    shape = points.shape[:-2]
    if given is not None:
      return of_kept.as_given(self.kept, given, self.num_groups, shape)
    if not self.kept.is_variable:
      return None
    if is_update:
      return of_kept.draw(self, shape, example_index)
    if rate_weight is None:
      rate_weight = self.kept.rate_weight
    weight = tariffs.at_positions(rate_weight, shape)
    points = jax.lax.stop_gradient(points)
    quantized = self._take(search())
    return of_kept.choose(points, quantized, self._dropped, weight, self._bits)

  @property
  def _width(self) -> int:
    """G W."""
    return self.num_groups * self.quantizer.example_shape[-1]

  @property
  def _codes(self) -> GroupCodes:
    return GroupCodes(self.quantizer, self.num_groups)

  @property
  def _bits(self) -> float:
    """The bits of a group that is kept."""
    return of_kept.bits_of_group(self.quantizer.streams)

  @nn.nowrap
  def _make_quantizer(self) -> base.Quantizer:
    own = {} if self.axis_name is None else {"axis_name": self.axis_name}
    return self.quantizer.clone(parent=None, **own)

  def _to_points(
    self, z: jax.Array, mask: jax.Array | None
  ) -> tuple[jax.Array, jax.Array]:
    """Returns groups float32 `[..., G, W]`, and which points are finite."""
    points, is_finite = projections.to_points(z, mask, self._project)
    width = self._width // self.num_groups
    shape = z.shape[:-1]
    points = points.reshape(*shape, self.num_groups, width)
    return points, is_finite.reshape(shape)

  def _project(self, z: jax.Array) -> jax.Array:
    """Returns what groups see of z float32 `[T, C]`, float32 `[T, G W]`."""
    points = z if self.project_in is None else self.project_in(z)
    arrays = {name: x.value for name, x in self.constants.items()}
    return self.split.split(points, arrays)

  def _from_groups(self, values: jax.Array) -> jax.Array:
    """Returns the values float32 `[..., C]` of groups `[..., G, W]`."""
    points = values.reshape(-1, self._width)
    return projections.from_points(points, values.shape[:-2], self.project_out)

  @nn.nowrap
  def _price_of_group(
    self, rate_weight: jax.Array | float | None
  ) -> dict[str, jax.Array]:
    """Returns what a bit costs beside the mean square of one group."""
    if rate_weight is None or not self.quantizer.has_price:
      return {}
    checks.check_not_negative("rate_weight", rate_weight, is_finite=True)
    weight = jnp.asarray(rate_weight, jnp.float32)
    return {"rate_weight": self.num_groups * weight}

  @nn.nowrap
  def _loss(
    self,
    results: Sequence[base.Quantized],
    of_each: jax.Array,
    axis_name: str | None,
  ) -> jax.Array:
    """Returns the mean of the groups' losses, by how many points keep them.

    Args:
      results: of the groups.
      of_each: which points count in each, bool `[..., G]`.
      axis_name: the mapped axis over which the batch is spread.
    """
    losses = [result.loss for result in results]
    if self.shared_codebook or not self.kept.is_variable:
      return sum(losses) / len(losses)
    counts = [
      masks.count(of_each[..., g], axis_name) for g in range(self.num_groups)
    ]
    total = sum(n * loss for n, loss in zip(counts, losses, strict=True))
    return total / jnp.maximum(sum(counts), 1.0)

  @nn.nowrap
  def _metrics(self, results: Sequence[base.Quantized]) -> dict[str, jax.Array]:
    metrics = dict(results[0].metrics)
    if not self.shared_codebook:
      of_each = [result.metrics for result in results]
      metrics = jax.tree.map(lambda *x: jnp.stack(x), *of_each)
    if "rate" in metrics:
      metrics["rate"] = self.num_groups * metrics["rate"].mean()
    return metrics

  @nn.nowrap
  def _statistics(self, results: Sequence[base.Quantized]) -> Any:
    if self.shared_codebook or results[0].statistics is None:
      return results[0].statistics
    return tuple(result.statistics for result in results)

  @nn.nowrap
  def _check_z(self, z: jax.Array, mask: jax.Array | None) -> None:
    name = "groups' width" if self.features is None else "features"
    width = self._width if self.features is None else self.features
    base.check_inputs(z, mask, width, f"the quantizer's {name}")

  @nn.nowrap
  def check(self) -> None:
    """Raises a ValueError, "FIELD is X; it must be Y", if one does not fit."""
    super().check()
    checks.check_count("num_groups", self.num_groups, maximum=_MOST_GROUPS)
    checks.check_bool("shared_codebook", self.shared_codebook)
    check_option("kept", self.kept, of_kept.AbstractKept, "RandomKept()")
    check_option("split", self.split, splits.AbstractSplit, "Slices()")
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
      group_template.check(self.quantizer, self.kept)
