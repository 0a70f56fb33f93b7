"""Residual quantization (Lee et al., 2022; Zeghidour et al., 2021).

Shapes: C features of z, S stages, N codewords of width D in each, T points.
"""

from collections.abc import Sequence
import itertools
from typing import Any
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from adq_jax import checks
from adq_jax import masks
from adq_jax.codebook import placement as placements
from adq_jax.codebook import updates
from adq_jax.codebook.statistics import Batch
from adq_jax.codebook.statistics import Statistics
from adq_jax.codebook.statistics import statistics_of
from adq_jax.quantizers import base
from adq_jax.quantizers import codewords as of_codewords
from adq_jax.quantizers import depth_choice as depth_choices
from adq_jax.quantizers import depths
from adq_jax.quantizers import estimators
from adq_jax.quantizers import price as prices
from adq_jax.quantizers import projections
from adq_jax.quantizers import stages as of_stages
from adq_jax.quantizers import tariff as tariffs
from adq_jax.quantizers.choice import AttentionChoice
from adq_jax.quantizers.collection import update_each
from adq_jax.quantizers.slots import check_slots
from adq_jax.quantizers.stage_codebooks import StageCodebooks
from adq_jax.quantizers.stages import Stage
from adq_jax.quantizers.stream_counts import StreamCounts
from adq_jax.quantizers.vector import VectorQuantizer
from adq_jax.streams import Stream

# What the codebooks of stages have in common.
_OF_EACH_CODEBOOK = (
  "codebook_size",
  "embedding_dim",
  "commitment_cost",
  "update",
  "placement",
  "estimator",
  "codewords",
  "axis_name",
)


class ResidualQuantizer(base.Quantizer):
  """Replaces every vector of z by a sum of codewords, one of each stage.

  Each stage quantizes what the stages before it left.  So the first codes of a
  point are a coarser code of it: `decode(codes, num_stages=2)` adds the
  codewords of two stages.

  The codebook of a stage is a `VectorQuantizer`, whose state training changes:
  apply with `mutable=["codebook"]`.  Training quantizes with all codewords as
  they are, and then updates them once.  A codebook starts on data, or comes
  to life again, where its own stage has points: on residuals.

  With a `price`, a point takes as many stages as pay for their bits, from none
  to all.  This depth is a stream of its own, coded by entropy.  With an
  `AttentionChoice` for `depth_choice` it is learned instead, as the paper's
  pool of codebooks: the members are the sums of the first 1 to S codewords.  A
  stage then learns from the points that use it alone, as with a price, so that
  late codewords are not spent on points that do without them.

  Attributes:
    num_stages: S.
    codebook_size: N.
    embedding_dim: D.
    features: C, with 1x1 projections C -> D and D -> C around all stages; None
      where z has width D itself.
    shared_codebook: whether all stages use one codebook, as in Lee et al.; it
      learns from the points of all stages, and starts on those of the first.
    beam_size: how many sums of codewords are looked at for each point.  With 1
      each stage takes the nearest codeword.  More find a nearer sum of all
      stages, and take far longer; the sums of first stages may be farther.
    stage_dropout: the share of examples that use a sampled number of stages in
      training, from 1 to S, so that all prefixes become good; 1 in Zeghidour et
      al.  It needs the rng stream `"dropout"`.
    committed: the commitment is of `"all"` sums of the first codewords, as in
      Lee et al., or of the `"last"` one, that of all stages.
    commitment_cost: alpha of eq. 3.
    update: how the codewords learn; see `VectorQuantizer`.
    placement: where codewords are placed at first, and again.  Normal codewords
      are too long for the residuals of late stages: start them on data.
    estimator: what gives values a gradient, once for the sum.
    codewords: what codewords are made of.
    price: what bits cost: `NoPrice`; `NominalPrice`, which decides on depths
      alone; or `CodedPrice`, on codewords too.
    depth_choice: what else decides on depths: nothing, `AllStages`; or an
      `AttentionChoice`, sampled in training, which takes no price, dropout or
      beam beside it.
    axis_name: the mapped axis over which a training batch is spread.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from adq_jax import Placement, ResidualQuantizer
    >>> quantizer = ResidualQuantizer(3, 16, 4, placement=Placement("data"))
    >>> z = jax.random.normal(jax.random.key(0), (64, 4))
    >>> variables = quantizer.init(jax.random.key(1), z)
    >>> rngs = {"codebook": jax.random.key(2)}
    >>> _, state = quantizer.apply(
    ...   variables, z, train=True, mutable=["codebook"], rngs=rngs
    ... )
    >>> variables = {**variables, **state}
    >>> codes = quantizer.apply(variables, z, method="encode")
    >>> codes.shape
    (64, 3)
    >>> coarse = quantizer.apply(
    ...   variables, codes, num_stages=1, method="decode"
    ... )
    >>> fine = quantizer.apply(variables, codes, method="decode")
    >>> bool(jnp.square(z - fine).mean() < jnp.square(z - coarse).mean())
    True
  """

  num_stages: int
  codebook_size: int
  embedding_dim: int
  features: int | None = None
  shared_codebook: bool = False
  beam_size: int = 1
  stage_dropout: float = 0.0
  committed: str = "all"
  commitment_cost: float = 0.25
  update: updates.AbstractUpdate = updates.EmaUpdate()
  placement: placements.AbstractPlacement = placements.Placement()
  estimator: estimators.AbstractEstimator = estimators.StraightThrough()
  codewords: of_codewords.AbstractCodewords = of_codewords.FreeCodewords()
  price: prices.AbstractPrice = prices.NoPrice()
  depth_choice: depth_choices.DepthChoice = depth_choices.AllStages()
  axis_name: str | None = None

  decoding_fields: ClassVar[tuple[str, ...]] = (
    "num_stages",
    "codebook_size",
    "embedding_dim",
    "features",
    "shared_codebook",
    "codewords",
  )

  @property
  def streams(self) -> tuple[Stream, ...]:
    """The codes of each stage, after the depth where points differ in it."""
    stages = tuple(
      Stream(name, self.codebook_size, width=self.embedding_dim)
      for name in self._names()
    )
    if not self._has_depths:
      return stages
    return (depths.make_stream(self.num_stages), *stages)

  @property
  def has_price(self) -> bool:
    """Whether bits cost anything."""
    return self.price.is_charged

  @property
  def rng_streams(self) -> tuple[str, ...]:
    """Those of what is sampled, and those of the codebooks."""
    codebook, *_ = self._make_codebooks(parent=None)
    gumbel = ("gumbel",) if self.draws else ()
    dropout = ("dropout",) if self.stage_dropout else ()
    return (*gumbel, *dropout, *codebook.rng_streams)

  @property
  def example_shape(self) -> tuple[int, ...]:
    """One point."""
    width = self.embedding_dim if self.features is None else self.features
    return (1, width)

  @property
  def draws(self) -> bool:
    """Whether depths can be sampled."""
    return isinstance(self.depth_choice, AttentionChoice)

  @property
  def _has_depths(self) -> bool:
    return self.has_price or self.draws

  @nn.nowrap
  def to_streams(self, codes: jax.Array) -> tuple[jax.Array, ...]:
    """Returns the codes of each stage; of evaluation, where none is dropped."""
    self._check_codes(codes)
    codes = jnp.asarray(codes, jnp.int32)
    if not self._has_depths:
      return tuple(codes[..., s] for s in range(self.num_stages))
    sent = jnp.where(of_stages.is_used(codes), codes, 0)
    return (
      depths.of_codes(codes),
      *(sent[..., s] for s in range(self.num_stages)),
    )

  @nn.nowrap
  def from_streams(self, values: Sequence[jax.Array]) -> jax.Array:
    """Returns the codes, int32 `[..., S]`."""
    depth, codes = values[: self._has_depths], values[self._has_depths :]
    codes = jnp.stack([jnp.asarray(value) for value in codes], axis=-1)
    return of_stages.cut(codes, *depth) if depth else codes

  @nn.nowrap
  def sent(self, k: int, earlier: Sequence[jax.Array]) -> jax.Array | None:
    """Returns where a stage is used; see `Quantizer.sent`."""
    if not (self._has_depths and earlier):
      return None
    return earlier[0] >= k

  def setup(self):
    self.check()
    self.project_in = self.project_out = None
    if self.features is not None:
      self.project_in, self.project_out = projections.make_pair(
        self.features, self.embedding_dim
      )
    self.codebooks = self._make_codebooks()
    if self.has_price:
      self.depths = StreamCounts(
        self, depths.STREAM, self.num_stages + 1, self.update.decay
      )
    if self.draws:
      self.selector = self.depth_choice.make_selector(self.num_stages)

  @nn.nowrap
  def _make_codebooks(self, **of_flax: Any) -> list[VectorQuantizer]:
    common = {name: getattr(self, name) for name in _OF_EACH_CODEBOOK}
    count = 1 if self.shared_codebook else self.num_stages
    return [VectorQuantizer(**common, **of_flax) for _ in range(count)]

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
        the rng stream `"codebook"`, the same on all devices; with
        `stage_dropout`, the stream `"dropout"`.
      mask: 1 for a real point and 0 for padding, `[...]`; see
        `VectorQuantizer`.
      temperature: of a learned `depth_choice`, as is `draw`; see
        `AdaptiveQuantizer`.  Ignored without one.
      draw: whether depths are sampled, with the rng stream `"gumbel"`.
      example_index: int `[B]`, for the B entries of z's first axis: what is
        sampled of them depends on it and the rng stream alone.  By default
        the place in the batch of all devices.
      rate_weight: what a bit costs, with a `price`; see `VectorQuantizer`.

    Returns:
      Quantized, with int32 `codes` `[..., S]`; -1 where a point does not use a
      stage, which in evaluation is so with a `price` or a learned depth.  Its
      `loss` is `commitment_cost` times the commitment, and the mean of the
      stages' codebook terms, where there are any, with the term of
      `depth_choice`.  Of its metrics,
      `quantization_error`, after each stage, `perplexity` and `usage` are
      vectors `[S]`, of the points that use a stage, and `nonfinite_points` is
      one number; where points differ in depth there is `selection` `[S + 1]`,
      the share of points that choose each, and with a `price` there is `rate`,
      the mean of the bits that it counts.  `statistics` are those of each
      codebook, and with a `price` of the depths.

    Raises:
      ValueError: if a shape, dtype or field does not fit, a mask has other
        values, the collection is not mutable in training or not in float32, a
        needed rng stream is missing, or `axis_name` is no mapped axis.
    """
    self._check_z(z, mask)
    is_update, axis_name = self._update_of(train)
    shape = z.shape[:-1]
    is_unmasked = masks.as_bool(mask, shape).reshape(-1)
    points, is_finite = projections.to_points(z, mask, self.project_in)
    batch = Batch(points, is_unmasked & is_finite, axis_name)
    tariff = self._tariff(rate_weight, shape, train=is_update)
    codes = self._books.search(
      batch, self.beam_size, tariff, is_update=is_update
    )
    if is_update and self.stage_dropout:
      sampled = of_stages.draw_depths(self, shape, example_index, axis_name)
      codes = of_stages.cut(codes, sampled)
    taken = self._books.take(codes, self.num_stages)
    if self.draws:
      scored = self._score(
        z,
        batch.is_real,
        is_update=is_update,
        draw=draw,
        temperature=temperature,
        example_index=example_index,
        axis_name=axis_name,
      )
      of_all = taken
      codes = of_stages.cut(codes, scored.depths)
      used = of_stages.is_used(codes)
      taken = [masks.keep(x, used[:, s]) for s, x in enumerate(of_all)]
    *_, total = itertools.accumulate(taken)
    stages = of_stages.follow(batch, codes, taken)
    statistics = [
      statistics_of(
        stage.batch,
        stage.codes,
        self.codebook_size,
        has_sums=is_update and self.update.has_sums,
      )
      for stage in stages
    ]
    loss = self._loss(stages, batch, total)
    metrics = of_stages.metrics_of(stages, statistics)
    of_depths = None
    if self._has_depths:
      of_depths = depths.statistics_of(batch, codes)
      metrics |= depths.metrics_of(of_depths)
    if tariff is not None:
      sent = dict(zip(self._names(), codes.T, strict=True))
      sent[depths.STREAM] = depths.of_codes(codes)
      metrics |= tariffs.rate_of(tariff, sent, batch)
    learned = None
    if is_update:
      learned = self._learn(stages, statistics, of_depths)
    values = self.estimator.estimate(total, points)
    if self.draws:
      values = scored.with_gradient(values, of_all)
      loss = self.depth_choice.add_loss_of_scores(
        loss, scored.scores, batch.is_real.reshape(shape), axis_name
      )
    values = projections.from_points(values, shape, self.project_out)
    values = masks.keep_gradient(values, batch.is_real.reshape(shape))
    return base.Quantized(
      values=values.astype(jnp.asarray(z).dtype),
      codes=codes.reshape(*shape, self.num_stages),
      loss=loss,
      metrics={
        **metrics,
        "nonfinite_points": masks.count(is_unmasked & ~is_finite, axis_name),
      },
      statistics=learned,
    )

  def update_codebook(self, statistics: tuple[Statistics, ...]) -> None:
    """Moves the codewords as a training step with these statistics does.

    See `VectorQuantizer.update_codebook`.

    Args:
      statistics: of each codebook: one of a shared one, else S; and with a
        `price` of the depths.
    """
    parts = [*self.codebooks, *([self.depths] if self.has_price else [])]
    update_each(parts, statistics)

  def encode(
    self, z: jax.Array, *, rate_weight: jax.Array | float | None = None
  ) -> jax.Array:
    """Returns the codes of z `[..., C]`, int32 `[..., S]`; see `__call__`."""
    self._check_z(z, None)
    batch = Batch(*projections.to_points(z, None, self.project_in))
    codes = self._books.search(
      batch, self.beam_size, self._tariff(rate_weight, z.shape[:-1])
    )
    if self.draws:
      codes = of_stages.cut(codes, self._score(z, batch.is_real).depths)
    return codes.reshape(*z.shape[:-1], self.num_stages)

  def decode(
    self, codes: jax.Array, num_stages: int | None = None
  ) -> jax.Array:
    """Returns the values float32 `[..., C]` of codes `[..., S]`, any integers.

    Args:
      codes: those of a stage may be -1, which adds nothing; another one out of
        range gives NaN.
      num_stages: how many of the first stages to add; None: all S.

    Raises:
      ValueError: if the codes are no integers `[..., S]`, or there are not so
        many stages.
    """
    self._check_codes(codes)
    num_stages = of_stages.number_decoded(num_stages, self.num_stages)
    taken = self._books.take(codes.reshape(-1, self.num_stages), num_stages)
    *_, total = itertools.accumulate(taken)
    return projections.from_points(total, codes.shape[:-1], self.project_out)

  def _score(
    self, z: jax.Array, is_real: jax.Array, **kwargs: Any
  ) -> depth_choices.Scored:
    return depth_choices.score(
      self, self.depth_choice, self.selector, z, is_real, **kwargs
    )

  @property
  def _books(self) -> StageCodebooks:
    return StageCodebooks(self.codebooks, self._names())

  @nn.nowrap
  def _names(self) -> list[str]:
    """Returns the names of the stages' streams."""
    return [f"stage_{s}" for s in range(self.num_stages)]

  def _tariff(
    self,
    rate_weight: jax.Array | float | None,
    shape: tuple[int, ...],
    *,
    train: bool = False,
  ) -> tariffs.Tariff | None:
    """Returns what codes cost points `[...]`; None: nothing."""
    if not self.has_price:
      return None
    bits = self._books.bits(self.price)
    bits[depths.STREAM] = prices.coded_bits(self.depths.values())
    return tariffs.make_tariff(
      self,
      self.price,
      rate_weight,
      shape,
      bits,
      train=train,
    )

  def _loss(
    self, stages: Sequence[Stage], batch: Batch, total: jax.Array
  ) -> jax.Array:
    """Returns the loss of a step, float32 `[]`.

    Args:
      stages: of the step.
      batch: the points before all of them.
      total: the sum of their codewords, float32 `[T, D]`.
    """
    loss = self.commitment_cost * of_stages.commitment(
      stages, batch, total, self.committed
    )
    terms = [self.update.loss(stage.batch, stage.taken) for stage in stages]
    if terms[0] is not None:
      loss += sum(terms) / len(terms)
    return loss

  def _learn(
    self,
    stages: Sequence[Stage],
    statistics: Sequence[Statistics],
    of_depths: Statistics | None,
  ) -> tuple[Statistics, ...]:
    """Updates the state, and returns what with; see `update_codebook`."""
    learned = self._books.learn(stages, statistics)
    if not self.has_price:
      return learned
    self.depths.update_codebook(of_depths)
    return (*learned, of_depths)

  def _check_z(self, z: jax.Array, mask: jax.Array | None) -> None:
    base.check_projected(z, mask, self.features, self.embedding_dim)

  @nn.nowrap
  def _check_codes(self, codes: jax.Array) -> None:
    of_stages.check_codes(codes, self.num_stages)

  @nn.nowrap
  def check(self) -> None:
    """Raises a ValueError if a field does not fit."""
    super().check()
    checks.check_count("num_stages", self.num_stages, maximum=of_stages.MOST)
    if self.features is not None:
      checks.check_count("features", self.features)
    checks.check_bool("shared_codebook", self.shared_codebook)
    checks.check_count("beam_size", self.beam_size)
    of_stages.check_dropout(self.stage_dropout)
    checks.check_choice("committed", self.committed, of_stages.COMMITTED)
    # Before a codebook, which accepts earlier spellings, sees them.
    check_slots(self)
    if self.has_price and self.stage_dropout:
      raise ValueError(
        f"stage_dropout is {self.stage_dropout}; it must be 0 where price is"
        f" {self.price!r}, which decides how many stages are used"
      )
    depth_choices.check(
      self.depth_choice,
      self.features or self.embedding_dim,
      {
        "price": (self.price, prices.NoPrice()),
        "stage_dropout": (self.stage_dropout, 0.0),
        "beam_size": (self.beam_size, 1),
      },
    )
    for codebook in self._make_codebooks(parent=None):
      codebook.check()
