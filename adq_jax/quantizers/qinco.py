"""Residual quantization with implicit neural codebooks (Huijben et al., 2024).

Shapes: C features of z, S stages, K codewords of width D in each, T points, B
hypotheses for each point, A codewords that a network is tried on.
"""

from collections.abc import Sequence
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from adq_jax import checks
from adq_jax import masks
from adq_jax import metrics
from adq_jax.codebook.statistics import code_counts
from adq_jax.options import check_option
from adq_jax.quantizers import base
from adq_jax.quantizers import estimators
from adq_jax.quantizers import implicit_search
from adq_jax.quantizers import projections
from adq_jax.quantizers import stages as of_stages
from adq_jax.quantizers.collection import COLLECTION
from adq_jax.quantizers.implicit_networks import AbstractImplicitNetwork
from adq_jax.quantizers.implicit_networks import QINCoNetwork
from adq_jax.quantizers.implicit_search import ImplicitStages
from adq_jax.quantizers.unused_codewords import UnusedCodewords
from adq_jax.streams import Stream


class QINCo(base.Quantizer):
  """Replaces every vector by a sum of codewords that networks make.

  As in a residual quantizer, each stage quantizes what the stages before it
  left.  But what it adds is no stored codeword: a network of the stage makes it
  from the stored one and from what is decoded so far, so that each point has
  codebooks of its own.  The codes of the first stages decode alone.

  Codewords and networks are parameters, which `loss` trains.  The search is
  outside of the gradient.  What the found codes decode to is inside, and late
  stages train the early ones too.  `qinco_from_residual` starts from a trained
  `ResidualQuantizer`, as the papers do; networks start as the identity.

  The papers compress fixed vectors.  That `loss` has a commitment, and that one
  straight-through step leads around all stages, makes it a bottleneck; this is
  of neither paper.

  A search takes T K (S - 1) runs of a network, or T B A (S - 1).  Points are
  searched in chunks: the T B A numbers of a layer that are in memory at once
  are at most 2^24.

  Attributes:
    num_stages: S.
    codebook_size: K.
    embedding_dim: D.
    features: C, with 1x1 projections C -> D and D -> C around all stages; None
      where z has width D itself.
    network: makes codewords of all stages but the first: `QINCoNetwork` or
      `QINCo2Network`.
    num_candidates: A: in each stage but the first the network is tried on the A
      codewords alone that a plain codebook finds, a parameter as well, as in
      Vallaeys et al.; 0: on all K.
    beam_size: B: how many sums the search keeps for each point from stage to
      stage, at most K.
    replace_every: after how many steps of training the codewords that no point
      took in them become noise with the mean and the standard deviation of
      what is left of points; an epoch in the papers.  0: never.  What this
      needs is in the collection `"codebook"`, so apply with
      `mutable=["codebook"]` then, and with the rng stream `"codebook"`.
    commitment_cost: alpha of eq. 3.
    estimator: what gives values a gradient, once for the sum.
    axis_name: the mapped axis over which a training batch is spread.

  Example:
    >>> import jax
    >>> from adq_jax import QINCo, QINCoNetwork
    >>> quantizer = QINCo(3, 16, 4, network=QINCoNetwork(1, hidden=8))
    >>> z = jax.random.normal(jax.random.key(0), (64, 4))
    >>> variables = quantizer.init(jax.random.key(1), z)
    >>> codes = quantizer.apply(variables, z, method="encode")
    >>> codes.shape
    (64, 3)
    >>> coarse = quantizer.apply(
    ...   variables, codes, num_stages=1, method="decode"
    ... )
    >>> coarse.shape
    (64, 4)
  """

  num_stages: int
  codebook_size: int
  embedding_dim: int
  features: int | None = None
  network: AbstractImplicitNetwork = QINCoNetwork()
  num_candidates: int = 0
  beam_size: int = 1
  replace_every: int = 0
  commitment_cost: float = 0.25
  estimator: estimators.AbstractEstimator = estimators.StraightThrough()
  axis_name: str | None = None

  decoding_fields: ClassVar[tuple[str, ...]] = (
    "num_stages",
    "codebook_size",
    "embedding_dim",
    "features",
    "network",
  )

  @property
  def streams(self) -> tuple[Stream, ...]:
    """The codes of each stage."""
    return tuple(
      Stream(f"stage_{s}", self.codebook_size, width=self.embedding_dim)
      for s in range(self.num_stages)
    )

  @property
  def rng_streams(self) -> tuple[str, ...]:
    """`"codebook"`, where codewords are replaced."""
    return (COLLECTION,) if self.replace_every else ()

  @property
  def example_shape(self) -> tuple[int, ...]:
    """One point."""
    width = self.embedding_dim if self.features is None else self.features
    return (1, width)

  @nn.nowrap
  def to_streams(self, codes: jax.Array) -> tuple[jax.Array, ...]:
    """Returns the codes of each stage, int32 `[...]`."""
    self._check_codes(codes)
    codes = jnp.asarray(codes, jnp.int32)
    return tuple(codes[..., s] for s in range(self.num_stages))

  @nn.nowrap
  def from_streams(self, values: Sequence[jax.Array]) -> jax.Array:
    """Returns the codes, int32 `[..., S]`."""
    return jnp.stack([jnp.asarray(value) for value in values], axis=-1)

  def setup(self):
    self.check()
    self.project_in = self.project_out = None
    if self.features is not None:
      self.project_in, self.project_out = projections.make_pair(
        self.features, self.embedding_dim
      )
    shape = (self.num_stages, self.codebook_size, self.embedding_dim)
    embedding = self.param("embedding", _falling_normal, shape)
    stored = {"embedding": embedding}
    if self.num_candidates:
      stored["candidates"] = self.param("candidates", lambda key: embedding[1:])
    self.stored = stored
    self.parameters = {
      name: self.param(
        f"network_{name}",
        initializer,
        (self.num_stages - 1, *of_stage),
        jnp.float32,
      )
      for name, (of_stage, initializer) in self.network.parameters(
        self.embedding_dim
      ).items()
    }
    self.unused = None
    if self.replace_every:
      self.unused = UnusedCodewords(self, self.replace_every, self.stored)

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
    """Quantizes z.

    Args:
      z: floating `[..., C]`, or `[..., D]` without projections.
      train: whether to count and to replace codewords, with `replace_every`; by
        default what the field says, or False.  In training under `axis_name`,
        loss and metrics are of the batch of all devices.
      mask: 1 for a real point and 0 for padding, `[...]`; see
        `VectorQuantizer`.
      temperature: ignored, as are the arguments after it.
      draw: ignored.
      example_index: ignored.
      rate_weight: ignored.

    Returns:
      Quantized, with int32 `codes` `[..., S]`.  Its `loss` is the sum over
      stages of the mean square, over points and width, of what is left after
      each, which trains codewords and networks; `commitment_cost` times the
      mean over stages of the same, which trains z; and with `num_candidates`
      the same sum for the codewords that find candidates.  Of its metrics,
      `quantization_error`, after each stage, `perplexity` and `usage` are
      vectors `[S]`, and `nonfinite_points` is one number.

    Raises:
      ValueError: if a shape, dtype or field does not fit, a mask has other
        values, the collection is not mutable in training or not in float32, a
        needed rng stream is missing, or `axis_name` is no mapped axis.
    """
    del temperature, draw, example_index, rate_weight
    self._check_z(z, mask)
    is_update, axis_name = self._update_of(train)
    is_update &= self.unused is not None
    if is_update:
      self.unused.check_can_change()
    shape = z.shape[:-1]
    is_unmasked = masks.as_bool(mask, shape).reshape(-1)
    points, is_finite = projections.to_points(z, mask, self.project_in)
    is_real = is_unmasked & is_finite
    codes = self._search(points, is_real)
    sums = implicit_search.decode(self._stages, codes)
    loss, errors = self._loss(points, codes, sums, is_real, axis_name)
    values = projections.from_points(
      self.estimator.estimate(sums[-1], points), shape, self.project_out
    )
    values = masks.keep_gradient(values, is_real.reshape(shape))
    counts = self._counts(codes, is_real, axis_name)
    if is_update:
      left = points[None] - jnp.pad(sums[:-1], ((1, 0), (0, 0), (0, 0)))
      self.unused.update(self.stored, counts, left, is_real, axis_name)
    return base.Quantized(
      values=values.astype(jnp.asarray(z).dtype),  # NumPy's float64 is none
      codes=codes.reshape(*shape, self.num_stages),
      loss=loss,
      metrics={
        "quantization_error": errors,
        "perplexity": jax.vmap(metrics.perplexity)(counts),
        "usage": jax.vmap(metrics.usage)(counts),
        "nonfinite_points": masks.count(is_unmasked & ~is_finite, axis_name),
      },
    )

  def encode(
    self, z: jax.Array, *, rate_weight: jax.Array | float | None = None
  ) -> jax.Array:
    """Returns the codes of z `[..., C]`, int32 `[..., S]`; see `__call__`."""
    del rate_weight
    self._check_z(z, None)
    points = projections.to_points(z, None, self.project_in)
    return self._search(*points).reshape(*z.shape[:-1], self.num_stages)

  def decode(
    self, codes: jax.Array, num_stages: int | None = None
  ) -> jax.Array:
    """Returns the values float32 `[..., C]` of codes `[..., S]`, any integers.

    A code out of range gives NaN, if its stage is decoded.

    Args:
      codes: of all stages.
      num_stages: how many of the first stages to decode; None: all S.

    Raises:
      ValueError: if the codes are no integers `[..., S]`, or there are not so
        many stages.
    """
    self._check_codes(codes)
    num_stages = of_stages.number_decoded(num_stages, self.num_stages)
    points = codes.reshape(-1, self.num_stages)[:, :num_stages]
    sums = implicit_search.decode(self._stages.first(num_stages), points)
    return projections.from_points(sums[-1], codes.shape[:-1], self.project_out)

  @property
  def _stages(self) -> ImplicitStages:
    stored, parameters = jax.tree.map(
      lambda x: x.astype(jnp.float32), (dict(self.stored), self.parameters)
    )
    if self.unused is not None:
      stored = {
        name: self.unused.displaced(name, stored[name]) for name in stored
      }
    return ImplicitStages(
      stored["embedding"], parameters, stored.get("candidates"), self.network
    )

  def _search(self, points: jax.Array, is_real: jax.Array) -> jax.Array:
    """Returns the codes int32 `[T, S]` of points `[T, D]`, 0 of unreal ones."""
    codes = implicit_search.search(
      self._stages,
      points,
      beam_size=self.beam_size,
      num_candidates=self.num_candidates,
    )
    return jnp.where(is_real[:, None], codes, 0)

  def _loss(
    self,
    points: jax.Array,
    codes: jax.Array,
    sums: jax.Array,
    is_real: jax.Array,
    axis_name: str | None,
  ) -> tuple[jax.Array, jax.Array]:
    """Returns the loss, and the mean error after each stage, float32 `[S]`.

    Args:
      points: float32 `[T, D]`.
      codes: of them, int32 `[T, S]`.
      sums: what is decoded after each stage, float32 `[S, T, D]`.
      is_real: which points count, bool `[T]`.
      axis_name: the mapped axis over which the batch is spread.
    """

    def errors(points: jax.Array, sums: jax.Array) -> jax.Array:
      return jax.vmap(
        lambda sums: masks.mean_square(points, sums, is_real, axis_name)
      )(sums)

    fixed = jax.lax.stop_gradient(points)
    committed = errors(points, jax.lax.stop_gradient(sums))
    loss = errors(fixed, sums).sum() + self.commitment_cost * committed.mean()
    if self.num_candidates and self.num_stages > 1:
      candidates = self._stages.candidates
      taken = jax.vmap(lambda codes, x: x[codes])(codes[:, 1:].T, candidates)
      loss += errors(fixed, jax.lax.stop_gradient(sums[:-1]) + taken).sum()
    committed = jax.lax.stop_gradient(committed)
    if axis_name is not None:
      committed = jax.lax.pmean(committed, axis_name)
    return loss, committed

  @nn.nowrap
  def _counts(
    self, codes: jax.Array, is_real: jax.Array, axis_name: str | None
  ) -> jax.Array:
    """Returns how often codewords are used, float32 `[S, K]`."""
    starts = self.codebook_size * jnp.arange(self.num_stages, dtype=jnp.int32)
    counts = code_counts(
      codes + starts[None],
      self.num_stages * self.codebook_size,
      mask=jnp.broadcast_to(is_real[:, None], codes.shape),
      axis_name=axis_name,
    )
    return counts.reshape(self.num_stages, self.codebook_size)

  def _check_z(self, z: jax.Array, mask: jax.Array | None) -> None:
    base.check_projected(z, mask, self.features, self.embedding_dim)

  @nn.nowrap
  def _check_codes(self, codes: jax.Array) -> None:
    of_stages.check_codes(codes, self.num_stages)

  @nn.nowrap
  def check(self) -> None:
    """Raises a ValueError, "FIELD is X; it must be Y", if one does not fit."""
    super().check()
    checks.check_count("num_stages", self.num_stages, maximum=of_stages.MOST)
    checks.check_count("codebook_size", self.codebook_size)
    checks.check_count("embedding_dim", self.embedding_dim)
    if self.features is not None:
      checks.check_count("features", self.features)
    check_option(
      "network", self.network, AbstractImplicitNetwork, "QINCoNetwork()"
    )
    for name, minimum in (("num_candidates", 0), ("beam_size", 1)):
      checks.check_count(
        name,
        getattr(self, name),
        minimum,
        maximum=self.codebook_size,
        why="the codebook_size",
      )
    checks.check_count("replace_every", self.replace_every, minimum=0)
    checks.check_at_least("commitment_cost", self.commitment_cost, 0)
    check_option(
      "estimator",
      self.estimator,
      estimators.AbstractEstimator,
      "StraightThrough()",
    )
    checks.check_axis_name("axis_name", self.axis_name)


def _falling_normal(key: jax.Array, shape: tuple[int, int, int]) -> jax.Array:
  """Returns codewords whose length falls from stage to stage.

  K codewords of width D take a factor of about K^(-1 / D) off what is left of
  normal points, which a later stage then sees.
  """
  num_stages, size, dim = shape
  scale = float(size) ** -(jnp.arange(num_stages, dtype=jnp.float32) / dim)
  return scale[:, None, None] * jax.random.normal(key, shape, jnp.float32)
