"""A softmax over codewords, which training samples (Gumbel-Softmax).

Shapes: C features of z, N codewords of width D, T points.
"""

from collections.abc import Sequence
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from adq_jax import checks
from adq_jax import masks
from adq_jax import metrics
from adq_jax.chunks import map_chunks
from adq_jax.codebook import lookup
from adq_jax.codebook.statistics import code_counts
from adq_jax.options import check_option
from adq_jax.quantizers import attention
from adq_jax.quantizers import base
from adq_jax.quantizers import categorical_slots as slots
from adq_jax.quantizers import examples
from adq_jax.quantizers import projections
from adq_jax.streams import Stream

_AT_ONCE = 2**22  # scores of points that are held together
_SLOTS = {
  "scores": (slots.AbstractScores, "LinearScores()"),
  "posterior": (slots.AbstractPosterior, "SoftmaxPosterior()"),
  "relaxation": (slots.AbstractRelaxation, "SoftRelaxation()"),
}


class CategoricalQuantizer(base.Quantizer):
  """Chooses by a distribution over codewords, and learns by Gumbel-Softmax.

  A point has a score for each codeword.  Training adds Gumbel noise, divides by
  the `temperature` of a call and takes a softmax: a relaxed sample, through
  which gradients reach scores and codewords.  Evaluation and `encode` take the
  best score.  Nothing is relaxed there, so values have no gradient to z.

      dvae = CategoricalQuantizer(8192, 128, features=256)
      sqvae = CategoricalQuantizer(
        512, 64, scores=DistanceScores(), posterior=SoftmaxPosterior(1.0)
      )
      edvae = CategoricalQuantizer(512, 16, posterior=DirichletPosterior())
      hypervq = CategoricalQuantizer(
        512,
        64,
        scores=HyperbolicScores(),
        posterior=SoftmaxPosterior(0.0),
        relaxation=HardRelaxation(),
      )

  The loss is the mean over points of `kl_weight` times the divergence from the
  prior, and of what the scores add.  All learns by gradients: there is no
  commitment, and no moving average.

  No array holds all points times all codewords.  Points are taken 2^22 / N at
  a time, and a gradient computes their scores and noise again.  So arrays of
  scores have 2^22 numbers at most, 16 MiB, whatever the batch.  A point's noise
  depends on the key, its example and its place in it alone.

  Attributes:
    codebook_size: N.
    embedding_dim: D.
    features: C, with 1x1 projections C -> D and D -> C around all; None where z
      has width D itself.
    scores: `LinearScores()`, `DistanceScores()`, `PositionDistanceScores()` or
      `HyperbolicScores()`.
    posterior: `SoftmaxPosterior()` or `DirichletPosterior()`.
    relaxation: `SoftRelaxation()` or `HardRelaxation()`.
    projection_init: how the projections start, `"identity"` or `"pytorch"`.
    axis_name: the mapped axis over which a training batch is spread.

  Example:
    >>> import jax
    >>> from adq_jax import CategoricalQuantizer
    >>> quantizer = CategoricalQuantizer(32, 4)
    >>> z = jax.random.normal(jax.random.key(0), (2, 5, 4))
    >>> variables = quantizer.init(jax.random.key(1), z)
    >>> rngs = {"gumbel": jax.random.key(2)}
    >>> result = quantizer.apply(
    ...   variables, z, train=True, temperature=0.5, rngs=rngs
    ... )
    >>> result.values.shape, result.codes.shape
    ((2, 5, 4), (2, 5))
  """

  codebook_size: int
  embedding_dim: int
  features: int | None = None
  scores: slots.AbstractScores = slots.LinearScores()
  posterior: slots.AbstractPosterior = slots.SoftmaxPosterior()
  relaxation: slots.AbstractRelaxation = slots.SoftRelaxation()
  projection_init: str = "identity"
  axis_name: str | None = None

  decoding_fields: ClassVar[tuple[str, ...]] = (
    "codebook_size",
    "embedding_dim",
    "features",
    "scores",
  )

  @property
  def streams(self) -> tuple[Stream, ...]:
    """The codes."""
    return (Stream("index", self.codebook_size, width=self.embedding_dim),)

  @property
  def draws(self) -> bool:
    """True."""
    return True

  @property
  def rng_streams(self) -> tuple[str, ...]:
    """That of the noise."""
    return ("gumbel",)

  @property
  def example_shape(self) -> tuple[int, ...]:
    """One point."""
    return (1, self.embedding_dim if self.features is None else self.features)

  @nn.nowrap
  def to_streams(self, codes: jax.Array) -> tuple[jax.Array, ...]:
    """Returns the codes, int32 `[...]`."""
    checks.check_integer("codes", codes)
    return (jnp.asarray(codes, jnp.int32),)

  @nn.nowrap
  def from_streams(self, values: Sequence[jax.Array]) -> jax.Array:
    """Returns the codes, int32 `[...]`."""
    (codes,) = values
    return codes

  def setup(self):
    self.check()
    self.project_in = self.project_out = None
    if self.features is not None:
      self.project_in, self.project_out = projections.make_pair(
        self.features, self.embedding_dim, init=self.projection_init
      )
    self.parameters = self.scores.parameters(
      self._parameter, self.codebook_size, self.embedding_dim
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
      z: floating `[..., C]`, or `[..., D]` without projections.
      train: whether values are relaxed and have a gradient.
      mask: 1 for a real point and 0 for padding, `[...]`, of any dtype.
        Padding may hold anything: it counts in no loss or metric, and no
        gradient comes from it or goes to it.  A point that is not finite counts
        as padding, whatever the mask.
      temperature: of the relaxed choice, above 0, a scalar.
      draw: whether codes are sampled; by default in training alone.  May be
        traced.
      example_index: what tells examples apart, int `[B]`, for the first axis of
        z; by default their place in the batch of all devices.
      rate_weight: ignored.

    Returns:
      Quantized, with int32 `codes` `[...]`.  Of `metrics`,
      `quantization_error` is the mean over points and D of what z differs from
      its codeword, squared; `divergence` is the mean from the prior, in nats;
      `perplexity` (1 to N) and `usage` are those of codes, not of mixtures.

    Raises:
      ValueError: if a shape, dtype or field does not fit, a mask has other
        values, `axis_name` is no mapped axis, or codes are sampled and the rng
        stream "gumbel" is missing.
    """
    del rate_weight
    self._check_z(z, mask)
    temperature = attention.as_temperature(temperature)
    is_update, axis_name = self._update_of(train)
    shape = z.shape[:-1]
    keys = examples.keys_of_module(
      self, shape, is_update, draw, example_index, axis_name
    )
    draw = True if draw is None else draw
    codewords = self.scores.codewords(self.parameters)

    def quantize(arrays):
      points, keys = arrays
      scores = self.scores.scores(self.parameters, points)
      divergence = self.posterior.divergence(scores)
      codes = jnp.argmax(scores, axis=-1).astype(jnp.int32)
      if keys is None and not is_update:
        return codes, codewords[codes], divergence
      logits = self.posterior.log_probabilities(scores)
      if keys is not None:
        size = self.codebook_size
        noise = jax.vmap(lambda k: jax.random.gumbel(k, (size,), jnp.float32))
        logits += jnp.where(draw, noise(keys), 0.0)
        drawn = jnp.argmax(logits, axis=-1).astype(jnp.int32)
        codes = jnp.where(draw, drawn, codes)
      if not is_update:
        return codes, codewords[codes], divergence
      weights = jax.nn.softmax(logits / temperature, axis=-1)
      values = self.relaxation.values(weights, codes, codewords)
      return codes, values, divergence

    is_unmasked = masks.as_bool(mask, shape).reshape(-1)
    points, is_finite = projections.to_points(z, mask, self.project_in)
    is_real = is_unmasked & is_finite
    quantize = jax.checkpoint(quantize) if is_update else quantize
    codes, values, divergence = map_chunks(
      quantize, (points, keys), self._num_at_once
    )
    misfit = self.scores.misfit(self.parameters, points, values)
    divergence = masks.mean(divergence, is_real, axis_name)
    loss = self.posterior.kl_weight * divergence + masks.mean(
      misfit, is_real, axis_name
    )
    error = masks.mean_square(points, codewords[codes], is_real, axis_name)
    averages = jax.lax.stop_gradient((error, divergence))
    if axis_name is not None:
      averages = jax.lax.pmean(averages, axis_name)
    if not is_update:
      values = jax.lax.stop_gradient(values)
    values = projections.from_points(values, shape, self.project_out)
    values = masks.keep_gradient(values, is_real.reshape(shape))
    counts = code_counts(
      codes, self.codebook_size, mask=is_real, axis_name=axis_name
    )
    return base.Quantized(
      values=values.astype(jnp.asarray(z).dtype),  # NumPy's float64 is none
      codes=codes.reshape(shape),
      loss=loss,
      metrics={
        "quantization_error": averages[0],
        "divergence": averages[1],
        "perplexity": metrics.perplexity(counts),
        "usage": metrics.usage(counts),
        "nonfinite_points": masks.count(is_unmasked & ~is_finite, axis_name),
      },
    )

  def encode(
    self, z: jax.Array, *, rate_weight: jax.Array | float | None = None
  ) -> jax.Array:
    """Returns the codes of z `[..., C]`, int32 `[...]`; see `__call__`."""
    del rate_weight
    self._check_z(z, None)
    points, _ = projections.to_points(z, None, self.project_in)

    def best(points):
      scores = self.scores.scores(self.parameters, points)
      return jnp.argmax(scores, axis=-1).astype(jnp.int32)

    return map_chunks(best, points, self._num_at_once).reshape(z.shape[:-1])

  def decode(self, codes: jax.Array) -> jax.Array:
    """Returns the values float32 `[..., C]` of codes `[...]`, any integers.

    One out of range gives NaN.
    """
    checks.check_integer("codes", codes)
    codewords = self.scores.codewords(self.parameters)
    taken = lookup.take(codes, codewords, self.codebook_size, None)
    return projections.from_points(taken, jnp.shape(codes), self.project_out)

  @property
  def _num_at_once(self) -> int:
    return max(1, _AT_ONCE // self.codebook_size)

  @nn.nowrap
  def _parameter(
    self,
    name: str,
    initializer: nn.initializers.Initializer,
    shape: tuple[int, ...],
  ) -> jax.Array:
    return self.param(name, initializer, shape, jnp.float32)

  @nn.nowrap
  def _check_z(self, z: jax.Array, mask: jax.Array | None) -> None:
    base.check_projected(z, mask, self.features, self.embedding_dim)

  @nn.nowrap
  def check(self) -> None:
    """Raises a ValueError, "FIELD is X; it must be Y", if one does not fit."""
    super().check()
    checks.check_count("codebook_size", self.codebook_size, 2)
    checks.check_count("embedding_dim", self.embedding_dim)
    if self.features is not None:
      checks.check_count("features", self.features)
    for slot, (kind, like) in _SLOTS.items():
      check_option(slot, getattr(self, slot), kind, like)
    is_evidence = isinstance(self.posterior, slots.DirichletPosterior)
    if is_evidence and not isinstance(self.scores, slots.LinearScores):
      raise ValueError(
        f"posterior is {self.posterior!r}; it must be a SoftmaxPosterior where"
        f" scores is {self.scores!r}, whose scores are no evidence"
      )
    projections.check_init("projection_init", self.projection_init)
    checks.check_axis_name("axis_name", self.axis_name)
