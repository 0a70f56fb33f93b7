"""Adaptive dynamic quantization (Chen et al., arXiv 2407.04939, alg. 1).

Shapes: C features of z, m codebooks, N_i codewords of width D_i in each.
"""

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp

from adq_jax import checks
from adq_jax import metrics
from adq_jax import selection
from adq_jax.codebook import code_counts
from adq_jax.nearest import nearest_codes
from adq_jax.parts import for_each_part
from adq_jax.quantizers import base
from adq_jax.quantizers.vector import VectorQuantizer

_PART = 256  # points that are searched together, at least


@flax.struct.dataclass
class AdaptiveCodes:
  """The codes of an adaptive quantizer.

  Attributes:
    book: the codebook that a point chose, int32 `[...]`, in [0, m).
    index: the codeword within it, int32 `[...]`, in [0, N_book).
  """

  book: jax.Array
  index: jax.Array


class AdaptiveQuantizer(nn.Module):
  """Lets every point choose one codebook of a pool, and a codeword in it.

  Each codebook is a `VectorQuantizer` with projections of its own and sees
  every point in training, whichever codebook the point chose.

  Attributes:
    structures: (N, D) of each codebook, m of them; `codebook_structures`
      gives the paper's pool.
    features: C.
    num_heads: heads of the attention that chooses, a divisor of C.
    commitment_cost, decay, update, codebook_init, revive_below, axis_name: of
      every codebook, see `VectorQuantizer`.
  """

  structures: tuple[tuple[int, int], ...]
  features: int
  num_heads: int = 2
  commitment_cost: float = 0.25
  decay: float = 0.99
  update: str = "ema"
  codebook_init: str = "normal"
  revive_below: float = 0.0
  axis_name: str | None = None

  def setup(self):
    if not self.structures:
      raise ValueError("structures is empty; it needs a pair (N, D) or more")
    self.codebooks = [
      VectorQuantizer(
        codebook_size,
        embedding_dim,
        features=self.features,
        commitment_cost=self.commitment_cost,
        decay=self.decay,
        update=self.update,
        codebook_init=self.codebook_init,
        revive_below=self.revive_below,
        axis_name=self.axis_name,
      )
      for codebook_size, embedding_dim in self.structures
    ]
    self.selector = selection.AttentionSelector(
      len(self.structures), self.num_heads
    )

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
      z: floating `[..., C]`.
      train: whether to update the collection `"codebook"`.
      temperature: tau of the Gumbel-Softmax; it scales the selector's
        gradient, not the choice.
      mask: 1 for a real point, `[...]`; padding counts in no statistic, loss
        or metric.
      draw: whether the choice is drawn from pi, with the rng stream
        `"gumbel"`, or is its largest entry; may be traced.  By default drawn
        in training.
      example_index: int `[B]`, for the B entries of z's first axis: their
        noise depends on it and the rng stream alone.  By default the place
        in the batch, in training in that of all devices along `axis_name`;
        the stream is then the same on all devices.

    Returns:
      Quantized with `AdaptiveCodes`.  The loss is the mean over codebooks
      (eq. 4).  Of its metrics, `quantization_error`, `perplexity` and `usage`
      are vectors `[m]`, over all points for every codebook; `selection` `[m]`
      is the share of points that chose each codebook; `selection_entropy` is
      in bits, and `rate` the nominal rate in bits per point.

    Raises:
      ValueError: as `VectorQuantizer`, and if the stream `"gumbel"` is missing
        where the choice is drawn.
    """
    base.check_inputs(z, mask, self.features, "the quantizer's features")
    if train and self.is_initializing():
      train = False
    axis_name = self.axis_name if train else None
    dtype, z = z.dtype, z.astype(jnp.float32)
    logits = self.selector(z)
    draw = train if draw is None else draw
    if draw is not False:
      noise = self._noise(logits.shape, example_index, axis_name)
      logits += jnp.where(draw, noise, 0.0)
    weights, book = selection.straight_through_choice(logits, temperature)
    results = [
      codebook(z, train=train, mask=mask) for codebook in self.codebooks
    ]
    values = sum(
      weights[..., i, None] * result.values for i, result in enumerate(results)
    )
    selected = code_counts(book, len(results), mask=mask, axis_name=axis_name)
    sizes = [codebook_size for codebook_size, _ in self.structures]
    return base.Quantized(
      values=values.astype(dtype),
      codes=AdaptiveCodes(book, _pick(book, [r.codes for r in results])),
      loss=sum(result.loss for result in results) / len(results),
      metrics={
        **{
          name: jnp.stack([result.metrics[name] for result in results])
          for name in results[0].metrics
        },
        "selection": selected / jnp.maximum(selected.sum(), 1.0),
        "selection_entropy": metrics.entropy_bits(selected),
        "rate": metrics.nominal_rate(selected, sizes),
      },
    )

  def encode(self, z: jax.Array) -> AdaptiveCodes:
    """Returns the codes that evaluation chooses for z `[..., C]`."""
    base.check_inputs(z, None, self.features, "the quantizer's features")
    z = z.astype(jnp.float32)
    logits = self.selector(z)
    _, book = selection.straight_through_choice(logits, 1.0)
    flat_book = book.reshape(-1)
    # Each codebook searches for those alone that chose it, in parts: how many
    # they are is not known beforehand.
    size = max(flat_book.size // 4, min(flat_book.size, _PART))
    index = jnp.zeros(flat_book.shape, jnp.int32)
    for i, codebook in enumerate(self.codebooks):
      points, codewords = codebook.search_space(z)

      def search(index, which, points=points, codewords=codewords):
        some = points.at[which].get(mode="clip")
        codes = nearest_codes(some, codewords)
        return index.at[which].set(codes, mode="drop")

      index = for_each_part(flat_book == i, index, search, size)
    return AdaptiveCodes(book, index.reshape(book.shape))

  def decode(self, codes: AdaptiveCodes) -> jax.Array:
    """Returns the values float32 `[..., C]` of codes.

    A book or index out of range gives NaN.
    """
    checks.check_integer("codes.book", codes.book)
    checks.check_integer("codes.index", codes.index)
    checks.check_shape(
      "codes.index", codes.index, codes.book.shape, "that of codes.book"
    )
    values = jnp.float32(jnp.nan)
    for i, codebook in enumerate(self.codebooks):
      decoded = codebook.decode(codes.index)
      values = jnp.where((codes.book == i)[..., None], decoded, values)
    return values

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
      example_index = jnp.arange(batch_size)
      if axis_name is not None:
        example_index += batch_size * jax.lax.axis_index(axis_name)
    checks.check_integer("example_index", example_index)
    checks.check_shape(
      "example_index", example_index, (batch_size,), "one for each example"
    )
    noise = selection.gumbel_noise(self.make_rng("gumbel"), rows, example_index)
    return noise.reshape(shape)


def _pick(book: jax.Array, indices: list[jax.Array]) -> jax.Array:
  """The index `[...]` that the chosen codebook gave each point."""
  picked = indices[0]
  for i, index in enumerate(indices[1:], start=1):
    picked = jnp.where(book == i, index, picked)
  return picked
