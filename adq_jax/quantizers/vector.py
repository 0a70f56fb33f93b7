"""Vector quantization with one codebook (van den Oord et al., 2017).

Shapes: C features of z, N codewords, D their width, T points.
"""

from collections.abc import Callable
from collections.abc import Sequence
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from adq_jax import checks
from adq_jax import masks
from adq_jax import metrics
from adq_jax.codebook import lookup
from adq_jax.codebook import placement as placements
from adq_jax.codebook import shards
from adq_jax.codebook import similarity as similarities
from adq_jax.codebook import updates
from adq_jax.codebook.statistics import Batch
from adq_jax.codebook.statistics import check_statistics
from adq_jax.codebook.statistics import Statistics
from adq_jax.codebook.statistics import statistics_of
from adq_jax.quantizers import assignment as assignments
from adq_jax.quantizers import base
from adq_jax.quantizers import codewords as of_codewords
from adq_jax.quantizers import estimators
from adq_jax.quantizers import examples
from adq_jax.quantizers import keywords
from adq_jax.quantizers import price as prices
from adq_jax.quantizers import projections
from adq_jax.quantizers import tariff as tariffs
from adq_jax.quantizers.collection import CodebookCollection
from adq_jax.quantizers.collection import COLLECTION
from adq_jax.quantizers.slots import check_slots
from adq_jax.streams import Stream

STREAM = "index"  # of a VectorQuantizer


class VectorQuantizer(keywords.Translated, base.Quantizer):
  """Replaces every vector of z by the nearest of N codewords.

  The state is in the collection `"codebook"`: `embedding`, `cluster_size`,
  `embedding_sum` and `initialized`, as in `adq_jax.Codebook`.  Training
  changes it, so apply with `mutable=["codebook"]`.  Under `pmap`, statistics
  and sampled codewords come from the batches of all devices.  Differentiate
  with respect to `variables["params"]` alone: `initialized` is bool, which
  `jax.grad` refuses.  The averages stay float32: of variables that are cast to
  another dtype, training refuses the collection, and all else computes in
  float32.

  Seven fields are slots: their values are objects, and another paper is another
  class of them.

      quantizer = VectorQuantizer(
        512,
        64,
        update=EmaUpdate(decay=0.9),
        placement=Placement(init="data", revive_below=0.1),
      )

  The earlier spelling is accepted: `update="ema"`, `"smoothed_ema"` or
  `"gradient"`, with `decay`, `codebook_init` and `revive_below` as fields.

  `adq_jax.codebook_from` makes a collection of codewords that come from
  elsewhere; `adq_jax.freeze_codewords` keeps some codewords as they are;
  `update_codebook` makes one update of several batches, or one when it is asked
  for.

  Attributes:
    codebook_size: N.
    embedding_dim: D.
    features: C, with 1x1 projections C -> D and D -> C around the codebook;
      None where z has width D itself.
    commitment_cost: alpha of eq. 3.
    update: how the codewords learn: `EmaUpdate`, `SmoothedEmaUpdate` or
      `GradientUpdate`, with which `embedding` is a parameter; or
      `FrozenUpdate`, with which the vectors of `codewords` stay.
    placement: where codewords are placed at first, and again: `Placement`.
    estimator: what gives values a gradient: `StraightThrough`,
      `RotationTrick`, `Directional` or `Synchronized`.
    codewords: what codewords are made of: `FreeCodewords`; or, of vectors and
      parameters, `LinearCodewords` or `AffineCodewords`.
    similarity: by what a codeword is the nearest: `Euclidean`; or `Cosine`, for
      codewords on the unit sphere.
    price: what bits cost: `NoPrice`; or `CodedPrice`, with which a point takes
      a frequent codeword unless another one is nearer by what it costs more.
    output_kernel: side of the projection D -> C: 1, or an odd number for a
      convolution over z `[..., H, W, C]`.
    projection_init: how the projections start: as parts of the `"identity"`, or
      random as in `"pytorch"`.
    axis_name: the mapped axis over which a training batch is spread.
    shard_codebook: whether each device of `axis_name` holds an equal part of
      the codewords instead of all, so that N may be as large as all of them
      have memory for; not where the codewords are a parameter.  The codes, and
      the state after training, are those of one device: to the bit on CPU
      devices, a power of two of them up to 1,024.  `init` needs no axis and
      makes the whole codebook, which `adq_jax.split_codebook` cuts; jitted
      together, with `out_shardings` over the devices, no device makes more than
      its own shard.  Everything else, evaluation too, has to be under the axis.
    assignment: which codewords training assigns to a point: `Nearest`; or
      `SampledCodes`, which samples them by their distances.
  """

  codebook_size: int
  embedding_dim: int
  features: int | None = None
  commitment_cost: float = 0.25
  update: updates.AbstractUpdate = updates.EmaUpdate()
  placement: placements.AbstractPlacement = placements.Placement()
  estimator: estimators.AbstractEstimator = estimators.StraightThrough()
  codewords: of_codewords.AbstractCodewords = of_codewords.FreeCodewords()
  similarity: similarities.AbstractSimilarity = similarities.Euclidean()
  price: prices.AbstractPrice = prices.NoPrice()
  output_kernel: int = 1
  projection_init: str = "identity"
  axis_name: str | None = None
  shard_codebook: bool = False
  assignment: assignments.AbstractAssignment = assignments.Nearest()

  # A shard decodes as the whole codebook does.
  decoding_fields: ClassVar[tuple[str, ...]] = (
    "codebook_size",
    "embedding_dim",
    "features",
    "codewords",
    "similarity",
    "output_kernel",
  )
  slots: ClassVar[tuple[keywords.Slot, ...]] = keywords.OF_A_CODEBOOK

  @property
  def streams(self) -> tuple[Stream, ...]:
    """The codes."""
    return (Stream(STREAM, self.codebook_size, width=self.embedding_dim),)

  @property
  def has_price(self) -> bool:
    """Whether bits cost anything."""
    return self.price.is_charged

  @property
  def rng_streams(self) -> tuple[str, ...]:
    """`"gumbel"` where codes are sampled, `"codebook"` where any are placed."""
    sampled = ("gumbel",) if self.assignment.is_sampled else ()
    return (*sampled, COLLECTION) if self.placement.is_active else sampled

  @property
  def example_shape(self) -> tuple[int, ...]:
    """One point, or an image of one."""
    width = self.embedding_dim if self.features is None else self.features
    return (*(1,) * (1 + self.spatial_axes), width)

  @property
  def sharded_size(self) -> int:
    """N, where `shard_codebook`; else 0."""
    return self.codebook_size if self.shard_codebook else 0

  @property
  def spatial_axes(self) -> int:
    """2 with an `output_kernel` above 1, which looks at neighbours; else 0."""
    return 0 if self.output_kernel == 1 else 2

  @nn.nowrap
  def to_streams(self, codes: jax.Array) -> tuple[jax.Array, ...]:
    """Returns the codes, int32."""
    checks.check_integer("codes", codes)
    return (jnp.asarray(codes, jnp.int32),)

  @nn.nowrap
  def from_streams(self, values: Sequence[jax.Array]) -> jax.Array:
    """Returns the codes."""
    (codes,) = values
    return codes

  def setup(self):
    self.check()
    self.project_in = self.project_out = None
    if self.features is not None:
      self.project_in, self.project_out = projections.make_pair(
        self.features,
        self.embedding_dim,
        output_kernel=self.output_kernel,
        init=self.projection_init,
      )
    self.to_codewords = self.codewords.make(self.embedding_dim)
    parameter = None
    if self.update.has_parameter:
      parameter = self.param(
        "embedding",
        nn.initializers.normal(1.0),
        (self.codebook_size, self.embedding_dim),
        jnp.float32,
      )
    self.state = CodebookCollection(
      self,
      self.codebook_size,
      self.embedding_dim,
      update=self.update,
      placement=self.placement,
      shard_axis=self._shard_axis,
      parameter=parameter,
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
    """Quantizes z with the codewords as they are, then updates these.

    Args:
      z: floating `[..., C]`, or `[..., D]` without projections.
      train: whether to update the collection `"codebook"`; by default what the
        field says, or False.  Where `placement` places codewords, this needs
        the rng stream `"codebook"`, the same on all devices.
      mask: 1 for a real point and 0 for padding, `[...]`, of any dtype.
        Padding may hold anything: its code is 0, it counts in no statistic,
        loss or metric, and no gradient comes from it or goes to it.  A point
        that is not finite counts as padding, whatever the mask.
      temperature: ignored: `assignment` has its own.
      draw: whether training samples codes, where `assignment` does so, with the
        rng stream `"gumbel"`; by default True.  May be traced.  Evaluation
        ignores it: it takes the nearest codeword.
      example_index: what tells examples apart for which codes are sampled, int
        `[B]`, for the first axis of z; by default their place in the batch of
        all devices.
      rate_weight: what a bit costs, with a `price`: a number, or one for each
        of the B entries of z's first axis, `[B]`; by default the price's own.

    Returns:
      Quantized, with int32 `codes` `[...]`.  Its `loss` and
      `metrics["quantization_error"]` are means over points and width;
      `metrics` also has the batch's `perplexity` (1 to N), `usage`, the
      share of codewords used, and `nonfinite_points`; with a `price` the
      `rate`, the mean of the bits that it counts.  In training under
      `axis_name`, metrics are of the batch of all devices, and the mean of
      `loss` over devices is its loss; in evaluation no device looks at
      another, except that those of a sharded codebook count `perplexity` and
      `usage` together.  Where training samples codes, values are means of
      codewords, and all metrics but `quantization_error` are of `codes`.

    Raises:
      ValueError: if a shape, dtype or field does not fit, a mask has other
        values, the collection is not mutable in training or not in float32, a
        needed rng stream is missing, or `axis_name` is no mapped axis.
    """
    del temperature

    def make_tariff(is_update: bool) -> tariffs.Tariff | None:
      return self._tariff(rate_weight, z.shape[:-1], train=is_update)

    return self.quantize(
      z,
      make_tariff,
      train=train,
      mask=mask,
      draw=draw,
      example_index=example_index,
    )

  def quantize(
    self,
    z: jax.Array,
    make_tariff: Callable[[bool], tariffs.Tariff | None],
    *,
    train: bool | None,
    mask: jax.Array | None,
    draw: bool | jax.Array | None = None,
    example_index: jax.Array | None = None,
  ) -> base.Quantized:
    """Quantizes z at a tariff, as `__call__` does at that of `price`.

    Args:
      z: as of `__call__`, as are the others.
      make_tariff: takes whether the call is a step of training, and returns
        what codes of the stream `STREAM` cost; None: nothing.
      train: whether to update the collection `"codebook"`; None: as the field
        says.
      mask: 1 for a real point and 0 for padding, `[...]`.
      draw: whether training samples codes, where `assignment` does so.
      example_index: what tells examples apart, int `[B]`.
    """
    self._check_z(z, mask)
    is_update, axis_name = self._update_of(train)
    shape = z.shape[:-1]
    is_unmasked = masks.as_bool(mask, shape).reshape(-1)
    points, is_finite = self._to_points(z, mask)
    is_real = is_unmasked & is_finite
    batch = Batch(points, is_real, axis_name, self._shard_axis, self.similarity)
    if is_update:
      self.state.check_can_change()
      self.state.place_before_search(batch)
    tariff = make_tariff(is_update)
    codes, quantized = self._search(points, is_real, tariff)
    samples = None
    if is_update:
      samples = self._samples(batch, codes, shape, draw, example_index)
    if samples is not None:
      codes = assignments.most_frequent(samples)
      quantized = assignments.mixture(samples, self.all_codewords())
    error = masks.mean_square(
      points, jax.lax.stop_gradient(quantized), is_real, axis_name
    )
    loss = self.commitment_cost * error
    codebook_term = self.update.loss(batch, quantized)
    if codebook_term is not None:
      loss += codebook_term
    has_sums = is_update and self.update.has_sums
    statistics = statistics_of(
      batch, codes, self.state.size, has_sums=has_sums and samples is None
    )
    counts = statistics.counts
    if samples is not None:
      statistics = assignments.statistics_of_samples(
        batch, samples, self.state.size, has_sums=has_sums
      )
    if is_update:
      self.state.move(statistics)
      self.state.place_after_update(batch)
    values = projections.from_points(
      self.estimator.estimate(quantized, points), shape, self.project_out
    )
    values = masks.keep_gradient(values, is_real.reshape(shape))
    error = jax.lax.stop_gradient(error)
    if axis_name is not None:
      error = jax.lax.pmean(error, axis_name)
    return base.Quantized(
      values=values.astype(jnp.asarray(z).dtype),  # NumPy's float64 is none
      codes=codes.reshape(shape),
      loss=loss,
      metrics={
        "quantization_error": error,
        "perplexity": metrics.perplexity(counts, self._shard_axis),
        "usage": metrics.usage(counts, self._shard_axis),
        "nonfinite_points": masks.count(is_unmasked & ~is_finite, axis_name),
        **tariffs.rate_of(tariff, {STREAM: codes}, batch),
      },
      statistics=statistics if is_update else None,
    )

  def update_codebook(self, statistics: Statistics) -> None:
    """Moves the codewords as a training step with these statistics does.

    For several micro-batches as one update: quantize each with `train=True`,
    drop the collection that this returns, and add the results' `statistics` up
    with `jax.tree.map(jnp.add, a, b)`.  Codewords are not placed here, but in a
    training step whose collection is kept.

    Args:
      statistics: of one batch or the sum of several, over all devices.

    Raises:
      ValueError: if they are of another codebook, or the collection is not
        mutable or not in float32.
    """
    self.state.check_can_change()
    dim = self.embedding_dim if self.update.has_sums else None
    check_statistics(statistics, self.state.size, dim)
    self.state.move(statistics)

  def encode(
    self, z: jax.Array, *, rate_weight: jax.Array | float | None = None
  ) -> jax.Array:
    """Returns the codes of z `[..., C]`, int32 `[...]`; see `__call__`."""
    return self.encode_at(z, self._tariff(rate_weight, z.shape[:-1]))

  def encode_at(self, z: jax.Array, tariff: tariffs.Tariff | None) -> jax.Array:
    """Returns the codes of z `[..., C]` at a tariff, int32 `[...]`."""
    self._check_z(z, None)
    codes, _ = self._search(*self._to_points(z, None), tariff)
    return codes.reshape(z.shape[:-1])

  def search_space(self, z: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns what the search compares, for z `[..., C]`.

    Points float32 `[T, D]`, and codewords float32 `[N, D]`, of a sharded
    codebook this device's.
    """
    self._check_z(z, None)
    points, is_finite = self._to_points(z, None)
    return masks.with_nan(points, is_finite), self.all_codewords()

  def all_codewords(self) -> jax.Array:
    """Returns the codewords float32 `[N, D]`, of a shard those of a device."""
    codewords = self.to_codewords(self.state.vectors())
    return self.similarity.compared(codewords)

  def decode(self, codes: jax.Array) -> jax.Array:
    """Returns the values float32 `[..., C]` of codes `[...]`, any integers.

    A code out of range gives NaN.
    """
    checks.check_integer("codes", codes)
    quantized = lookup.take(
      codes, self.all_codewords(), self.codebook_size, self._shard_axis
    )
    return projections.from_points(quantized, codes.shape, self.project_out)

  @property
  def _shard_axis(self) -> str | None:
    """Over whose devices the codewords are cut; None where they are not."""
    is_sharded = self.shard_codebook and not self.is_initializing()
    return self.axis_name if is_sharded else None

  def _tariff(
    self,
    rate_weight: jax.Array | float | None,
    shape: tuple[int, ...],
    *,
    train: bool = False,
  ) -> tariffs.Tariff | None:
    """Returns what each codeword costs points `[...]`; None: nothing."""
    if not self.price.is_charged:
      return None
    axis = self._shard_axis
    # Without a shard a price need not know that there are any.
    where = () if axis is None else (axis,)
    bits = self.price.bits(self.state.values()["cluster_size"], *where)
    return tariffs.make_tariff(
      self,
      self.price,
      rate_weight,
      shape,
      {STREAM: bits},
      shard_axis=axis,
      train=train,
    )

  def _search(
    self,
    points: jax.Array,
    is_real: jax.Array,
    tariff: tariffs.Tariff | None,
  ) -> tuple[jax.Array, jax.Array]:
    """Returns the codes `[T]` of points, and their codewords `[T, D]`.

    The code is 0 where a point is not real, bool `[T]`.
    """
    codewords = self.all_codewords()
    if self.shard_codebook and self.is_initializing():
      # While it is made, it may be too large for a search.
      codes = jnp.zeros(len(points), jnp.int32)
      return codes, jnp.take(codewords, codes, axis=0)
    costs = tariffs.search_arguments(tariff, STREAM, self.embedding_dim)
    return lookup.nearest(points, is_real, codewords, self._shard_axis, **costs)

  def _samples(
    self,
    batch: Batch,
    codes: jax.Array,
    shape: tuple[int, ...],
    draw: bool | jax.Array | None,
    example_index: jax.Array | None,
  ) -> jax.Array | None:
    """Returns codes that training samples, int32 `[m, T]`; None: it does not.

    Args:
      batch: of the step.
      codes: those of the nearest codewords, int32 `[T]`.
      shape: `[...]` of the points.
      draw: whether codes are sampled.
      example_index: what tells examples apart, int `[B]`.
    """
    if not self.assignment.is_sampled:
      return None
    keys = examples.keys_of_module(
      self, shape, True, draw, example_index, batch.axis_name
    )
    if keys is None:
      return None
    points, codewords = jax.lax.stop_gradient(
      (batch.points, self.all_codewords())
    )
    samples = self.assignment.samples(keys, points, codewords)
    is_sampled = batch.is_real & (True if draw is None else draw)
    return jnp.where(is_sampled[None], samples, codes[None])

  def _to_points(
    self, z: jax.Array, mask: jax.Array | None
  ) -> tuple[jax.Array, jax.Array]:
    """Returns points `[T, D]` as they are compared, and which are finite."""
    points, is_finite = projections.to_points(z, mask, self.project_in)
    return self.similarity.compared(points), is_finite

  def _check_z(self, z: jax.Array, mask: jax.Array | None) -> None:
    min_rank = 1 + self.spatial_axes
    base.check_projected(
      z, mask, self.features, self.embedding_dim, min_rank=min_rank
    )

  @nn.nowrap
  def check(self) -> None:
    """Raises a ValueError if a field does not fit."""
    super().check()
    checks.check_count("codebook_size", self.codebook_size)
    checks.check_count("embedding_dim", self.embedding_dim)
    if self.features is not None:
      checks.check_count("features", self.features)
    checks.check_at_least("commitment_cost", self.commitment_cost, 0)
    check_slots(self)
    similarities.check_field(self.similarity, self.embedding_dim)
    projections.check_kernel(self.output_kernel, self.features)
    projections.check_init("projection_init", self.projection_init)
    checks.check_axis_name("axis_name", self.axis_name)
    shards.check_field(self.shard_codebook, self.axis_name)
    assignments.check_field(
      self.assignment,
      estimator=self.estimator,
      price=self.price,
      shard_codebook=self.shard_codebook,
    )
    if self.shard_codebook and self.codewords.has_parameters:
      raise ValueError(
        f"shard_codebook is True; it must be False where codewords is"
        f" {self.codewords!r}, whose parameters every device has; use"
        " FreeCodewords()"
      )
    if self.shard_codebook and self.update.has_parameter:
      raise ValueError(
        "shard_codebook is True; it must be False where update is"
        f" {self.update!r}, which makes the codewords a parameter; use"
        " EmaUpdate()"
      )
