"""Adaptive dynamic quantization (Chen et al., arXiv 2407.04939, alg. 1).

Shapes: C features of z, m codebooks, N_i codewords of width D_i in each.
"""

from collections.abc import Sequence
import math
from typing import Any
from typing import ClassVar

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp

from adq_jax import checks
from adq_jax import masks
from adq_jax import metrics
from adq_jax.chunks import for_each_chunk
from adq_jax.codebook import placement as placements
from adq_jax.codebook import updates
from adq_jax.codebook.statistics import code_counts
from adq_jax.codebook.statistics import Statistics
from adq_jax.codebook.statistics import to_indices
from adq_jax.quantizers import base
from adq_jax.quantizers import choice as choices
from adq_jax.quantizers import estimators
from adq_jax.quantizers import keywords
from adq_jax.quantizers.vector import VectorQuantizer
from adq_jax.search.nearest import nearest_codes
from adq_jax.streams import Stream

_PART = 256  # points that are searched together, at least


@flax.struct.dataclass
class AdaptiveCodes:
  """The codes of an adaptive quantizer.

  Attributes:
    book: the codebook that a point chose, int32 `[...]`, in [0, m).
    index: the codeword within it, int32 `[...]`, in [0, N_book).  Where
      decoding needs more than that (see `AdaptiveQuantizer.all_indices`), the
      codeword in each codebook, int32 `[..., m]`.
  """

  book: jax.Array
  index: jax.Array


class AdaptiveQuantizer(keywords.Translated, base.Quantizer):
  """Lets every point choose one codebook of a pool, and a codeword in it.

  Each codebook is a `VectorQuantizer` with projections of its own and sees
  every point in training, whichever codebook the point chose.

  Attributes:
    structures: (N, D) of each codebook, m of them; `codebook_structures`
      gives the paper's pool.
    features: C.
    selection: `"attention"`, learned, as in the paper; or `"distortion"`: the
      codebook whose values are nearest to z, for the bits that it takes,
      |z - values|^2 / C + rate_weight * log2 N.  Nothing is drawn then; the
      pool is one quantizer of z, whose codebooks are trained as autoencoders
      of z, and the straight-through estimator goes around all of it.
    rate_weight: what a bit costs where `"distortion"` chooses.
    entropy_weight: what each bit of `selection.choice_entropy` takes off the
      loss where `"attention"` chooses, so that it does not settle on one
      codebook.
    selection_unit: what makes one choice: a `"position"`; or `"channels"`, as
      the authors' code does, for z `[..., H, W, C]`: C neighbours in the memory
      of `[..., C, H, W]`, so that every position mixes codebooks.
    selection_logits: what Gumbel noise is added to: `"log_weights"` of the
      attention; or `"weights"`, as the authors' code does.
    num_heads: heads of the attention that chooses, a divisor of C.
    commitment_cost, update, placement, estimator, output_kernel, axis_name: of
      every codebook, see `VectorQuantizer`.
  """

  structures: tuple[tuple[int, int], ...]
  features: int
  selection: str = "attention"
  rate_weight: float = 0.0
  entropy_weight: float = 0.0
  selection_unit: str = "position"
  selection_logits: str = "log_weights"
  num_heads: int = 2
  commitment_cost: float = 0.25
  update: updates.AbstractUpdate = updates.EmaUpdate()
  placement: placements.AbstractPlacement = placements.Placement()
  estimator: estimators.AbstractEstimator = estimators.StraightThrough()
  output_kernel: int = 1
  axis_name: str | None = None

  decoding_fields: ClassVar[tuple[str, ...]] = (
    "structures",
    "features",
    "selection_unit",
    "output_kernel",
  )
  slots: ClassVar[tuple[keywords.Slot, ...]] = keywords.OF_A_CODEBOOK

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
      Stream(f"index_{i}", size, width=dim)
      for i, (size, dim) in enumerate(self.structures)
    )
    if len(indices) == 1:
      return indices
    titles = tuple(stream.title for stream in indices)
    choice = Stream("book", len(indices), coding="entropy", labels=titles)
    return (choice, *indices)

  @property
  def draws(self) -> bool:
    """Whether the choice may be drawn: not where `"distortion"` makes it."""
    return self.selection == "attention"

  @property
  def spatial_axes(self) -> int:
    """2 where `all_indices`; else 0."""
    return 2 if self.all_indices else 0

  @property
  def all_indices(self) -> bool:
    """Whether decoding a position takes the indices of several codebooks."""
    return self.selection_unit == "channels" or self.output_kernel > 1

  @nn.nowrap
  def to_streams(self, codes: AdaptiveCodes) -> tuple[jax.Array, ...]:
    """Returns the choice, if there is one, and the indices of each codebook.

    With `all_indices`, codes are of whole images.
    """
    self._check_codes(codes)
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
    return self._codes(book, indices)

  @nn.nowrap
  def sent(self, k: int, earlier: Sequence[jax.Array]) -> jax.Array | None:
    """Returns where a codebook's index is sent; see `Quantizer.sent`.

    That is where the codebook was chosen; with a wider `output_kernel`, also
    around it; with `selection_unit="channels"`, in all of an image where
    anything chose it.
    """
    if not earlier:
      return None
    return self._is_sent(earlier[0])[..., k - 1]

  @nn.nowrap
  def check(self) -> None:
    """Raises a ValueError if a field does not fit."""
    checks.check_choice("selection", self.selection, choices.SELECTIONS)
    checks.check_choice("selection_unit", self.selection_unit, choices.UNITS)
    checks.check_choice(
      "selection_logits", self.selection_logits, choices.LOGITS
    )
    for field, needed in choices.WEIGHTS_OF.items():
      weight = getattr(self, field)
      checks.check_at_least(field, weight, 0)
      if weight and self.selection != needed:
        raise ValueError(
          f"{field} is {weight} with selection={self.selection!r}; it must be"
          f" 0 unless that is {needed!r}"
        )
    checks.check_count("features", self.features)
    checks.check_count("num_heads", self.num_heads)
    if self.draws:
      choices.check_heads(self.num_heads, self.features)
    for fields in self._of_codebooks():
      VectorQuantizer(**fields, parent=None).check()

  def setup(self):
    self.check()
    self.codebooks = [
      VectorQuantizer(**fields) for fields in self._of_codebooks()
    ]
    if self.selection == "attention":
      self.selector = choices.AttentionSelector(
        len(self.structures), self.num_heads
      )

  @nn.nowrap
  def _of_codebooks(self) -> list[dict[str, Any]]:
    """The fields of each codebook."""
    common = {
      name: getattr(self, name)
      for name in (
        "features",
        "commitment_cost",
        "update",
        "placement",
        "estimator",
        "output_kernel",
        "axis_name",
      )
    }
    return [
      {"codebook_size": size, "embedding_dim": dim, **common}
      for size, dim in self.structures
    ]

  def __call__(
    self,
    z: jax.Array,
    *,
    train: bool = False,
    temperature: jax.Array | float = 1.0,
    mask: jax.Array | None = None,
    draw: bool | jax.Array | None = None,
    example_index: jax.Array | None = None,
  ) -> base.Quantized:
    """Quantizes z with every codebook and keeps what each point chose.

    Args:
      z: floating `[..., C]`; `[..., H, W, C]` where `all_indices`.
      train: whether to update the collection `"codebook"`.
      temperature: tau of the Gumbel-Softmax; it scales the selector's
        gradient, not the choice.
      mask: 1 for a real point and 0 for padding, `[...]`, as of
        `VectorQuantizer`.  With `selection_unit="channels"`, of whole images.
      draw: whether the choice is drawn from pi, with the rng stream
        `"gumbel"`, or is its largest entry; may be traced.  By default drawn
        in training.  Of no meaning to `"distortion"`.
      example_index: int `[B]`, for the B entries of z's first axis: their
        noise depends on it and the rng stream alone.  By default the place
        in the batch, in training in that of all devices along `axis_name`;
        the stream is then the same on all devices.

    Returns:
      Quantized with `AdaptiveCodes`.  The loss is the mean over codebooks
      (eq. 4), less what `entropy_weight` takes off.  With `"distortion"` it
      reaches the projections alone, and there are two more: the mean of
      |z - values|^2 / C over codebooks, which trains their projections, and
      commitment_cost times that of the chosen values, which trains the
      encoder.  Of its metrics,
      `quantization_error`, `perplexity` and `usage` are vectors `[m]`, over
      all points for every codebook; `selection` `[m]` is the share of points
      that chose each codebook; `selection_entropy` is in bits, `rate` the
      nominal rate in bits per point, and `nonfinite_points` one number.

    Raises:
      ValueError: as `VectorQuantizer`, and if the stream `"gumbel"` is missing
        where the choice is drawn.
    """
    self._check_z(z, mask)
    checks.check_bool("train", train)
    if train and self.is_initializing():
      train = False
    axis_name = self.axis_name if train else None
    checks.check_axis("axis_name", axis_name)
    dtype = jnp.asarray(z).dtype
    given = jnp.asarray(z).astype(jnp.float32)
    is_real = masks.finite_rows(given) & masks.as_bool(mask, given.shape[:-1])
    z = masks.keep(given, is_real)
    # An autoencoder's gradient, straight-through to z, would push z away from
    # its codewords: z that it could move grows without bound.
    by_distortion = self.selection == "distortion"
    seen, given = (
      jax.lax.stop_gradient(x) if by_distortion else x for x in (z, given)
    )
    results = [
      codebook(given, train=train, mask=mask) for codebook in self.codebooks
    ]
    loss = sum(result.loss for result in results) / len(results)
    if not by_distortion:
      logits = self._logits(z)
      if self.entropy_weight:
        entropy = choices.choice_entropy(logits, is_real, axis_name)
        loss -= self.entropy_weight * entropy
      draw = train if draw is None else draw
      if draw is not False:
        noise = self._noise(logits.shape, example_index, axis_name)
        logits += jnp.where(draw, noise, jnp.zeros_like(noise))
      weights, book = choices.straight_through_choice(logits, temperature)
    else:
      book = self._least_distortion(seen, [r.values for r in results])
      weights = jax.nn.one_hot(book, len(results), dtype=jnp.float32)
    units = [self._to_units(result.values) for result in results]
    weighed = sum(weights[..., i, None] * x for i, x in enumerate(units))
    chosen = jax.lax.stop_gradient(_pick(book, units))
    values = self._from_units(estimators.straight_through(chosen, weighed))
    if by_distortion:
      left = masks.mean_square(
        z, jax.lax.stop_gradient(values), is_real, axis_name
      )
      loss += self.commitment_cost * left
      loss += sum(
        masks.mean_square(seen, result.values, is_real, axis_name)
        for result in results
      ) / len(results)
      values = estimators.straight_through(values, z)
    values = masks.keep_gradient(values, is_real)
    codes = self._codes(book, [result.codes for result in results])
    selected = code_counts(
      book, len(results), mask=is_real, axis_name=axis_name
    )
    is_sent = self._is_sent(book) & is_real[..., None]
    sent = jnp.stack(
      [masks.count(is_sent[..., i], axis_name) for i in range(len(results))]
    )
    nonfinite = [result.metrics["nonfinite_points"] for result in results]
    sizes = [codebook_size for codebook_size, _ in self.structures]
    return base.Quantized(
      values=values.astype(dtype),
      codes=codes,
      loss=loss,
      metrics={
        **{
          name: jnp.stack([result.metrics[name] for result in results])
          for name in results[0].metrics
        },
        "nonfinite_points": jnp.stack(nonfinite).max(),
        "selection": selected / jnp.maximum(selected.sum(), 1.0),
        "selection_entropy": metrics.entropy_bits(selected),
        "rate": metrics.nominal_rate(selected, sizes, sent),
      },
      statistics=tuple(r.statistics for r in results) if train else None,
    )

  def update_codebook(self, statistics: tuple[Statistics, ...]) -> None:
    """Moves the codewords as a training step with these statistics does.

    See `VectorQuantizer.update_codebook`.

    Args:
      statistics: of each codebook.

    Raises:
      ValueError: as there.
    """
    if not isinstance(statistics, tuple) or (
      len(statistics) != len(self.codebooks)
    ):
      raise ValueError(
        f"statistics is a {type(statistics).__name__}; it must be a tuple of"
        f" {len(self.codebooks)} Statistics, one of each codebook"
      )
    for codebook, own in zip(self.codebooks, statistics, strict=True):
      codebook.update_codebook(own)

  def encode(self, z: jax.Array) -> AdaptiveCodes:
    """Returns the codes that evaluation chooses for z `[..., C]`."""
    self._check_z(z, None)
    given = jnp.asarray(z).astype(jnp.float32)
    z = masks.keep(given, masks.finite_rows(given))
    if self.selection == "distortion":
      indices = [codebook.encode(given) for codebook in self.codebooks]
      values = [
        codebook.decode(index)
        for codebook, index in zip(self.codebooks, indices, strict=True)
      ]
      book = self._least_distortion(z, values)
      return self._codes(book, indices)
    _, book = choices.straight_through_choice(self._logits(z), 1.0)
    if self.all_indices:
      indices = [codebook.encode(given) for codebook in self.codebooks]
      return self._codes(book, indices)
    flat_book = book.reshape(-1)
    # Each codebook searches for those alone that chose it, in parts: how many
    # they are is not known beforehand.
    size = max(flat_book.size // 4, min(flat_book.size, _PART))
    index = jnp.zeros(flat_book.shape, jnp.int32)
    for i, codebook in enumerate(self.codebooks):
      points, codewords = codebook.search_space(given)

      def search(index, which, points=points, codewords=codewords):
        some = points.at[which].get(mode="clip")
        codes = nearest_codes(some, codewords)
        return index.at[which].set(codes, mode="drop")

      index = for_each_chunk(flat_book == i, index, search, size)
    return AdaptiveCodes(book, index.reshape(book.shape))

  def decode(self, codes: AdaptiveCodes) -> jax.Array:
    """Returns the values float32 `[..., C]` of codes.

    A book or index out of range gives NaN.
    """
    self._check_codes(codes)
    book = to_indices(codes.book, len(self.structures))
    is_good = book < len(self.structures)
    units = []
    for i, codebook in enumerate(self.codebooks):
      index = codes.index[..., i] if self.all_indices else codes.index
      if not self.all_indices:
        # Of other codebooks, whose indices this one may not have.
        index = jnp.where(
          book == i, to_indices(index, codebook.codebook_size), 0
        )
      units.append(self._to_units(codebook.decode(index)))
    values = jnp.where(is_good[..., None], _pick(book, units), jnp.nan)
    return self._from_units(values)

  @nn.nowrap
  def _is_sent(self, book: jax.Array) -> jax.Array:
    """Whether decoding needs the index of each codebook, bool `[..., m]`."""
    num_codebooks = len(self.structures)
    is_sent = jnp.stack([book == i for i in range(num_codebooks)], axis=-1)
    if self.selection_unit == "channels":
      return jnp.broadcast_to(
        is_sent.any(axis=(-3, -2), keepdims=True), is_sent.shape
      )
    if self.output_kernel > 1:
      sides = (self.output_kernel, self.output_kernel)
      chosen = is_sent.astype(jnp.float32)
      return nn.max_pool(chosen, sides, padding="SAME") > 0
    return is_sent

  @nn.nowrap
  def _check_codes(self, codes: AdaptiveCodes) -> None:
    if not isinstance(codes, AdaptiveCodes):
      raise ValueError(
        f"codes is a {type(codes).__name__}; it must be AdaptiveCodes(book,"
        " index), as encode returns them"
      )
    checks.check_integer("codes.book", codes.book)
    checks.check_integer("codes.index", codes.index)
    if self.all_indices:
      shape = (*codes.book.shape, len(self.structures))
      why = "an index for each codebook"
    else:
      shape, why = codes.book.shape, "that of codes.book"
    checks.check_shape("codes.index", codes.index, shape, why)

  def _check_z(self, z: jax.Array, mask: jax.Array | None) -> None:
    why = "the quantizer's features"
    min_rank = 1 + self.spatial_axes
    base.check_inputs(z, mask, self.features, why, min_rank=min_rank)

  def _logits(self, z: jax.Array) -> jax.Array:
    """What noise is added to, for the units of z: float32 `[..., m]`."""
    log_weights = self.selector(self._to_units(z))
    if self.selection_logits == "weights":
      return jnp.exp(log_weights)
    return log_weights

  def _least_distortion(
    self, z: jax.Array, values: list[jax.Array]
  ) -> jax.Array:
    """The codebook with the least cost, int32 `[...]`.

    Args:
      z: float32 `[..., C]`.
      values: of each codebook, `[..., C]`.
    """
    costs = [
      self._to_units(jnp.square(z - own)).mean(axis=-1)
      + self.rate_weight * math.log2(size)
      for own, (size, _) in zip(values, self.structures, strict=True)
    ]
    return jnp.argmin(jnp.stack(costs, axis=-1), axis=-1).astype(jnp.int32)

  def _to_units(self, values: jax.Array) -> jax.Array:
    """Values `[..., C]` in the order in which parts of them are chosen."""
    if self.selection_unit == "position":
      return values
    return jnp.moveaxis(values, -1, -3).reshape(values.shape)

  def _from_units(self, units: jax.Array) -> jax.Array:
    """The inverse of `_to_units`."""
    if self.selection_unit == "position":
      return units
    *batch, height, width, features = units.shape
    planes = units.reshape(*batch, features, height, width)
    return jnp.moveaxis(planes, -3, -1)

  @nn.nowrap
  def _codes(self, book: jax.Array, indices: list[jax.Array]) -> AdaptiveCodes:
    """The codes, from the index `[...]` of every codebook."""
    if self.all_indices:
      return AdaptiveCodes(book, jnp.stack(indices, axis=-1))
    return AdaptiveCodes(book, _pick(book, indices))

  def _noise(
    self,
    shape: tuple[int, ...],
    example_index: jax.Array | None,
    axis_name: str | None,
  ) -> jax.Array:
    if not self.has_rng("gumbel"):
      raise ValueError(
        'the choice of a codebook is drawn, but the rng stream "gumbel" is'
        ' missing; apply with rngs={"gumbel": key}, or with draw=False'
      )
    rows = shape if len(shape) > 1 else (1, *shape)
    batch_size = rows[0]
    if example_index is None:
      example_index = jnp.arange(batch_size, dtype=jnp.int32)
      if axis_name is not None:
        example_index += batch_size * jax.lax.axis_index(axis_name)
    checks.check_integer("example_index", example_index)
    checks.check_shape(
      "example_index", example_index, (batch_size,), "one for each example"
    )
    noise = choices.gumbel_noise(self.make_rng("gumbel"), rows, example_index)
    return noise.reshape(shape)


def _pick(book: jax.Array, of_each: list[jax.Array]) -> jax.Array:
  """What the chosen codebook gave each point.

  Args:
    book: int32 `[...]`.
    of_each: of each codebook, `[...]` or `[..., more]`.
  """
  picked = of_each[0]
  is_vector = picked.ndim > book.ndim
  for i, own in enumerate(of_each[1:], start=1):
    is_it = book == i
    picked = jnp.where(is_it[..., None] if is_vector else is_it, own, picked)
  return picked
