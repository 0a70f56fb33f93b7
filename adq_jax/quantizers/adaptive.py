"""Adaptive dynamic quantization (Chen et al., arXiv 2407.04939, alg. 1).

Shapes: C features of z, m codebooks, N_i codewords of width D_i in each.
"""

from collections.abc import Sequence
from typing import Any
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from adq_jax import checks
from adq_jax import masks
from adq_jax import metrics
from adq_jax.codebook import lookup
from adq_jax.codebook import placement as placements
from adq_jax.codebook import updates
from adq_jax.codebook.statistics import Batch
from adq_jax.codebook.statistics import code_counts
from adq_jax.codebook.statistics import Statistics
from adq_jax.codebook.statistics import to_indices
from adq_jax.options import check_option
from adq_jax.options import named
from adq_jax.quantizers import adaptive_codes
from adq_jax.quantizers import attention
from adq_jax.quantizers import base
from adq_jax.quantizers import choice as choices
from adq_jax.quantizers import estimators
from adq_jax.quantizers import keywords
from adq_jax.quantizers import pool_tariff
from adq_jax.quantizers import price as prices
from adq_jax.quantizers import tariff as tariffs
from adq_jax.quantizers import units
from adq_jax.quantizers.adaptive_codes import AdaptiveCodes
from adq_jax.quantizers.collection import update_each
from adq_jax.quantizers.stream_counts import StreamCounts
from adq_jax.quantizers.vector import VectorQuantizer
from adq_jax.streams import Stream

# What the codebooks of a pool have in common.
_OF_EACH_CODEBOOK = (
  "features",
  "commitment_cost",
  "update",
  "placement",
  "estimator",
  "output_kernel",
  "projection_init",
  "axis_name",
)


class AdaptiveQuantizer(keywords.Translated, base.Quantizer):
  """Lets every point choose one codebook of a pool, and a codeword in it.

  Each codebook is a `VectorQuantizer` with projections of its own and sees
  every point in training, whichever codebook the point uses.

  The earlier spelling is accepted: `selection="attention"` with `num_heads`,
  `entropy_weight` and `selection_logits`, or `selection="distortion"` with
  `rate_weight`; and those of `VectorQuantizer`.

  Attributes:
    structures: (N, D) of each codebook, m of them; `codebook_structures`
      gives the paper's pool.
    features: C.
    choice: what chooses: `AttentionChoice`, learned, as in the paper; or
      `DistortionChoice`, the nearest values for their bits.
    selection_unit: what makes one choice: a `"position"`; or `"channels"`, as
      the authors' code does, for z `[..., H, W, C]`: C neighbours in the memory
      of `[..., C, H, W]`, so that every position mixes codebooks.
    commitment_cost: of every codebook, as are `update`, `placement`,
      `estimator`, `output_kernel`, `projection_init` and `axis_name`; see
      `VectorQuantizer`.
    price: what bits cost, for a `DistortionChoice`: `NoPrice`, nothing but what
      the choice says; `NominalPrice`; or `CodedPrice`, which decides on
      codewords too.  A codebook is searched for the least |p - c|^2 + C w bits
      of a projected point p and its codewords c, where a bit costs w; the
      choice is the least |z - values|^2 / C + w bits of what was found.  The
      bits of the choice itself, always coded, are among them.  In training the
      frequencies of codewords count all points, whether these choose the
      codebook or not.
  """

  structures: tuple[tuple[int, int], ...]
  features: int
  choice: choices.AbstractChoice = choices.AttentionChoice()
  selection_unit: str = "position"
  commitment_cost: float = 0.25
  update: updates.AbstractUpdate = updates.EmaUpdate()
  placement: placements.AbstractPlacement = placements.Placement()
  estimator: estimators.AbstractEstimator = estimators.StraightThrough()
  output_kernel: int = 1
  projection_init: str = "identity"
  price: prices.AbstractPrice = prices.NoPrice()
  axis_name: str | None = None

  decoding_fields: ClassVar[tuple[str, ...]] = (
    "structures",
    "features",
    "selection_unit",
    "output_kernel",
  )
  slots: ClassVar[tuple[keywords.Slot, ...]] = (
    *keywords.OF_A_CODEBOOK,
    keywords.OF_A_CHOICE,
  )

  def __post_init__(self):
    # Tuples, so that the module can be hashed, as jax.jit's static arguments.
    object.__setattr__(
      self, "structures", checks.as_pairs("structures", self.structures)
    )
    super().__post_init__()

  @property
  def streams(self) -> tuple[Stream, ...]:
    """The choice of a codebook, if there are several, and indices of each."""
    indices = tuple(
      Stream(pool_tariff.index_stream(i), size, width=dim)
      for i, (size, dim) in enumerate(self.structures)
    )
    if len(indices) == 1:
      return indices
    titles = tuple(stream.title for stream in indices)
    choice = Stream(
      pool_tariff.BOOK, len(indices), coding="entropy", labels=titles
    )
    return (choice, *indices)

  @property
  def draws(self) -> bool:
    """Whether the choice can be sampled."""
    return self.choice.draws

  @property
  def has_price(self) -> bool:
    """Whether the choice depends on what a bit costs."""
    return self.choice.has_price or self.price.is_charged

  @property
  def rng_streams(self) -> tuple[str, ...]:
    """`"gumbel"`, where the choice is sampled, and those of the codebooks."""
    codebook, *_ = self._make_codebooks(parent=None)
    sampled = ("gumbel",) if self.draws else ()
    return (*sampled, *codebook.rng_streams)

  @property
  def example_shape(self) -> tuple[int, ...]:
    """One point, or an image of one."""
    return (*(1,) * (1 + self.spatial_axes), self.features)

  @property
  def spatial_axes(self) -> int:
    """2 where `all_indices`; else 0."""
    return 2 if self.all_indices else 0

  @property
  def all_indices(self) -> bool:
    """Whether decoding a position takes the indices of several codebooks."""
    return units.is_spread(self.selection_unit, self.output_kernel)

  @nn.nowrap
  def to_streams(self, codes: AdaptiveCodes) -> tuple[jax.Array, ...]:
    """Returns the choice, if there is one, and the indices of each codebook.

    With `all_indices`, codes are of whole images.
    """
    adaptive_codes.check(codes, len(self.structures), self.all_indices)
    index = jnp.asarray(codes.index, jnp.int32)
    book = jnp.asarray(codes.book, jnp.int32)
    if not self.all_indices:
      index = index[..., None]
    is_sent = self._is_sent(book)
    index = jnp.where(is_sent, index, 0)
    indices = tuple(index[..., i] for i in range(len(self.structures)))
    return indices if len(indices) == 1 else (book, *indices)

  @nn.nowrap
  def from_streams(self, values: Sequence[jax.Array]) -> AdaptiveCodes:
    """Returns codes that decode alike."""
    indices = [jnp.asarray(value) for value in values]
    if len(self.structures) == 1:
      book = jnp.zeros_like(indices[0])
    else:
      book, *indices = indices
    return self._make_codes(book, indices)

  @nn.nowrap
  def sent(self, k: int, earlier: Sequence[jax.Array]) -> jax.Array | None:
    """Returns where a codebook's index is sent; see `Quantizer.sent`.

    That is where the codebook was chosen; with a wider `output_kernel`, also
    around it; with `selection_unit="channels"`, in all of an image where
    any unit uses it.
    """
    if not earlier:
      return None
    return self._is_sent(earlier[0])[..., k - 1]

  @nn.nowrap
  def check(self) -> None:
    """Raises a ValueError if a field does not fit."""
    super().check()
    check_option(
      "choice", self.choice, choices.AbstractChoice, "AttentionChoice()"
    )
    units.check_unit("selection_unit", self.selection_unit)
    checks.check_count("features", self.features)
    with named("choice"):
      self.choice.check_features(self.features)
    pool_tariff.check(
      self.price, self.choice, self.selection_unit, self.output_kernel
    )
    for codebook in self._make_codebooks(parent=None):
      codebook.check()

  def setup(self):
    self.check()
    self.codebooks = self._make_codebooks()
    self.selector = self.choice.make_selector(len(self.structures))
    self.books = None
    if self.price.is_charged and len(self.structures) > 1:
      self.books = StreamCounts(
        self, pool_tariff.BOOK, len(self.structures), self.update.decay
      )

  @nn.nowrap
  def _make_codebooks(self, **of_flax: Any) -> list[VectorQuantizer]:
    common = {name: getattr(self, name) for name in _OF_EACH_CODEBOOK}
    return [
      VectorQuantizer(*structure, **common, **of_flax)
      for structure in self.structures
    ]

  def __call__(
    self,
    z: jax.Array,
    *,
    train: bool | None = None,
    temperature: jax.Array | float = 1.0,
    mask: jax.Array | None = None,
    draw: bool | jax.Array | None = None,
    example_index: jax.Array | None = None,
    rate_weight: jax.Array | float | None = None,
  ) -> base.Quantized:
    """Quantizes z with every codebook and keeps the choice of each point.

    Args:
      z: floating `[..., C]`; `[..., H, W, C]` where `all_indices`.
      train: whether to update the collection `"codebook"`; by default what the
        field says, or False.
      temperature: tau of the Gumbel-Softmax; it scales the selector's
        gradient, not the choice.
      mask: 1 for a real point and 0 for padding, `[...]`, as of
        `VectorQuantizer`.  With `selection_unit="channels"`, of whole images.
      draw: whether the choice is sampled from pi, with the rng stream
        `"gumbel"`, or is its largest entry; may be traced.  By default sampled
        in training.  A choice that cannot be sampled ignores it.
      example_index: int `[B]`, for the B entries of z's first axis: their
        noise depends on it and the rng stream alone.  By default the place
        in the batch, in training in that of all devices along `axis_name`;
        the stream is then the same on all devices.
      rate_weight: what a bit costs, a number or `[B]`; by default what the
        price or the choice says.  A choice that looks at no bits ignores it.

    Returns:
      Quantized with `AdaptiveCodes`.  The loss is the mean over codebooks
      (eq. 4), with the terms of `choice`.  Of its metrics,
      `quantization_error`, `perplexity` and `usage` are vectors `[m]`, over
      all points for every codebook; `selection` `[m]` is the share of points
      that use each codebook; `selection_entropy` is in bits, `rate` the
      nominal rate in bits per point, or with a `price` the mean of the bits
      that it counts, and `nonfinite_points` one number.  `statistics` are those
      of each codebook, and with a `price` of the choice.

    Raises:
      ValueError: as `VectorQuantizer`, and if the stream `"gumbel"` is missing
        where the choice is sampled.
    """
    self._check_z(z, mask)
    is_update, axis_name = self._update_of(train)
    dtype = jnp.asarray(z).dtype
    given = jnp.asarray(z).astype(jnp.float32)
    is_real = masks.finite_rows(given) & masks.as_bool(mask, given.shape[:-1])
    z = masks.keep(given, is_real)
    given = self.choice.to_codebooks(given)
    tariff = self._tariff(rate_weight, given.shape[:-1], train=is_update)
    results = [
      codebook.quantize(
        given, lambda _, own=own: own, train=is_update, mask=mask
      )
      for codebook, own in pool_tariff.of_each(tariff, self.codebooks)
    ]
    indices = [result.codes for result in results]
    loss = sum(result.loss for result in results) / len(results)
    of_each = [result.values for result in results]
    of_units = [units.to_units(own, self.selection_unit) for own in of_each]
    scores = self._scores(z, of_units, indices, rate_weight, tariff)
    loss = self.choice.add_loss_of_scores(loss, scores, is_real, axis_name)
    noise = self._noise(scores.shape, is_update, draw, example_index, axis_name)
    noisy = scores if noise is None else scores + noise
    weights, book = self.choice.choose(noisy, temperature)
    weighed = sum(weights[..., i, None] * x for i, x in enumerate(of_units))
    chosen = jax.lax.stop_gradient(units.pick(book, of_units))
    values = units.from_units(
      estimators.straight_through(chosen, weighed), self.selection_unit
    )
    loss = self.choice.add_loss_of_values(
      loss,
      choices.Chosen(
        z=z,
        of_each=of_each,
        values=values,
        is_real=is_real,
        axis_name=axis_name,
        commitment_cost=self.commitment_cost,
      ),
    )
    values = self.choice.from_codebooks(values, z)
    values = masks.keep_gradient(values, is_real)
    count = len(self.structures)
    selected = code_counts(book, count, mask=is_real, axis_name=axis_name)
    learned = None
    if is_update:
      learned = tuple(result.statistics for result in results)
      if self.books is not None:
        learned += (Statistics(selected, None),)
        self.books.update_codebook(learned[-1])
    batch = Batch(z.reshape(-1, self.features), is_real.reshape(-1), axis_name)
    sent = pool_tariff.sent(book, indices)
    return base.Quantized(
      values=values.astype(dtype),
      codes=self._make_codes(book, indices),
      loss=loss,
      metrics={
        **self._metrics(book, selected, is_real, results, axis_name),
        **tariffs.rate_of(tariff, sent, batch),
      },
      statistics=learned,
    )

  def _metrics(
    self,
    book: jax.Array,
    selected: jax.Array,
    is_real: jax.Array,
    results: Sequence[base.Quantized],
    axis_name: str | None,
  ) -> dict[str, jax.Array]:
    """Returns those of the batch, of choices and of all codebooks."""
    is_sent = self._is_sent(book) & is_real[..., None]
    sent = jnp.stack(
      [masks.count(is_sent[..., i], axis_name) for i in range(len(results))]
    )
    stacked = {
      name: jnp.stack([result.metrics[name] for result in results])
      for name in results[0].metrics
    }
    return {
      **stacked,
      "nonfinite_points": stacked["nonfinite_points"].max(),
      "selection": selected / jnp.maximum(selected.sum(), 1.0),
      "selection_entropy": metrics.entropy_bits(selected),
      "rate": metrics.nominal_rate(selected, self._sizes(), sent),
    }

  def update_codebook(self, statistics: tuple[Statistics, ...]) -> None:
    """Moves the codewords as a training step with these statistics does.

    See `VectorQuantizer.update_codebook`.

    Args:
      statistics: of each codebook, and with a `price` of the choice.

    Raises:
      ValueError: if there are not so many, or one is of another codebook, or
        the collection is not mutable or not in float32.
    """
    counts = [] if self.books is None else [self.books]
    update_each([*self.codebooks, *counts], statistics)

  def encode(
    self, z: jax.Array, *, rate_weight: jax.Array | float | None = None
  ) -> AdaptiveCodes:
    """Returns the codes of z `[..., C]` in evaluation; see `__call__`."""
    self._check_z(z, None)
    given = jnp.asarray(z).astype(jnp.float32)
    z = masks.keep(given, masks.finite_rows(given))
    if self.all_indices or self.choice.needs_values:
      tariff = self._tariff(rate_weight, given.shape[:-1])
      indices = [
        codebook.encode_at(given, own)
        for codebook, own in pool_tariff.of_each(tariff, self.codebooks)
      ]
      book = self._best_choice(z, indices, rate_weight, tariff)
      return self._make_codes(book, indices)
    book = self._best_choice(z, [], rate_weight, None)
    spaces = (codebook.search_space(given) for codebook in self.codebooks)
    index = lookup.nearest_of_chosen(book.reshape(-1), spaces)
    return AdaptiveCodes(book, index.reshape(book.shape))

  def decode(self, codes: AdaptiveCodes) -> jax.Array:
    """Returns the values float32 `[..., C]` of codes.

    A book or index out of range gives NaN.
    """
    adaptive_codes.check(codes, len(self.structures), self.all_indices)
    book = to_indices(codes.book, len(self.structures))
    is_good = book < len(self.structures)
    of_units = []
    for i, codebook in enumerate(self.codebooks):
      index = codes.index[..., i] if self.all_indices else codes.index
      if not self.all_indices:
        # Of other codebooks, whose indices this one may not have.
        index = jnp.where(
          book == i, to_indices(index, codebook.codebook_size), 0
        )
      values = codebook.decode(index)
      of_units.append(units.to_units(values, self.selection_unit))
    values = jnp.where(is_good[..., None], units.pick(book, of_units), jnp.nan)
    return units.from_units(values, self.selection_unit)

  @nn.nowrap
  def _is_sent(self, book: jax.Array) -> jax.Array:
    """Whether decoding needs the index of each codebook, bool `[..., m]`."""
    return units.is_needed(
      book, len(self.structures), self.selection_unit, self.output_kernel
    )

  def _check_z(self, z: jax.Array, mask: jax.Array | None) -> None:
    why = "the quantizer's features"
    min_rank = 1 + self.spatial_axes
    base.check_inputs(z, mask, self.features, why, min_rank=min_rank)

  @nn.nowrap
  def _sizes(self) -> list[int]:
    return [codebook_size for codebook_size, _ in self.structures]

  def _scores(
    self,
    z: jax.Array,
    of_units: list[jax.Array],
    indices: list[jax.Array],
    rate_weight: jax.Array | float | None,
    tariff: tariffs.Tariff | None,
  ) -> jax.Array:
    """Returns what the choice is made by, float32 `[..., m]`.

    Args:
      z: float32 `[..., C]`.
      of_units: the values of each codebook, in units; those that it needs.
      indices: in each codebook; those that it needs.
      rate_weight: what a bit costs, as of `__call__`.
      tariff: of the batch; None: what the choice says of bits.
    """
    if tariff is not None or not self.has_price:
      rate_weight = None
    if jnp.ndim(rate_weight) and z.ndim - 1 == self.spatial_axes:
      raise ValueError(
        f"rate_weight has shape {jnp.shape(rate_weight)}; it must be a number,"
        " as z is one image"
      )
    z = units.to_units(z, self.selection_unit)
    priced = {}
    if rate_weight is not None:
      weight = tariffs.at_positions(rate_weight, z.shape[:-1])
      priced = {"rate_weight": weight}
    scores = self.choice.scores(
      self.selector, z, of_units, self._sizes(), **priced
    )
    if tariff is None:
      return scores
    return scores - pool_tariff.charges(tariff, indices)

  def _tariff(
    self,
    rate_weight: jax.Array | float | None,
    shape: tuple[int, ...],
    *,
    train: bool = False,
  ) -> tariffs.Tariff | None:
    """Returns what codes cost points `[...]`; None: what the choice says."""
    if not self.price.is_charged:
      return None
    sizes = [x.state.values()["cluster_size"] for x in self.codebooks]
    bits = pool_tariff.running_bits(self.price, sizes, self.books)
    return tariffs.make_tariff(
      self,
      self.price,
      rate_weight,
      shape,
      bits,
      train=train,
    )

  def _best_choice(
    self,
    z: jax.Array,
    indices: list[jax.Array],
    rate_weight: jax.Array | float | None,
    tariff: tariffs.Tariff | None,
  ) -> jax.Array:
    """Returns the choice of evaluation, int32 `[...]`.

    Args:
      z: float32 `[..., C]`.
      indices: in each codebook; none where the choice needs no values.
      rate_weight: what a bit costs, as of `__call__`.
      tariff: of the batch.
    """
    of_units = []
    if self.choice.needs_values:
      of_units = [
        units.to_units(codebook.decode(index), self.selection_unit)
        for codebook, index in zip(self.codebooks, indices, strict=True)
      ]
    scores = self._scores(z, of_units, indices, rate_weight, tariff)
    _, book = self.choice.choose(scores, 1.0)
    return book

  @nn.nowrap
  def _make_codes(
    self, book: jax.Array, indices: list[jax.Array]
  ) -> AdaptiveCodes:
    return adaptive_codes.make(book, indices, self.all_indices)

  def _noise(
    self,
    shape: tuple[int, ...],
    is_update: bool,
    draw: bool | jax.Array | None,
    example_index: jax.Array | None,
    axis_name: str | None,
  ) -> jax.Array | None:
    """Returns what is added to scores of a shape; None: nothing."""
    if not self.draws:
      return None
    return attention.noise_of_module(
      self, shape, is_update, draw, example_index, axis_name
    )
