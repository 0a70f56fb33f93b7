"""How the codewords of a codebook learn from the points of a step.

Shapes: T points, N codewords, D their width.  `shard_axis` names the mapped
axis over whose devices the codebook is cut (see `adq_jax.codebook.shards`): a
device then has N / n of its rows, and the same comes out as for the whole.
"""

import abc
from collections.abc import Mapping
import dataclasses
import functools
from typing import ClassVar

import jax
import jax.numpy as jnp

from adq_jax import checks
from adq_jax import collectives
from adq_jax import masks
from adq_jax import options
from adq_jax.codebook.state import Codebook
from adq_jax.codebook.state import init_codebook
from adq_jax.codebook.statistics import Batch
from adq_jax.codebook.statistics import Statistics

State = Mapping[str, jax.Array]
_OF_A_CODEBOOK = tuple(
  field.name
  for field in dataclasses.fields(Codebook)
  if field.default is dataclasses.MISSING
)
_SMOOTHING = 1e-5  # points added to every codeword's count


@dataclasses.dataclass(frozen=True)
class AbstractUpdate(options.Option, abc.ABC):
  """What a slot `update` takes: a frozen dataclass.

  Attributes:
    decay: gamma of the moving averages, in [0, 1).
    state_names: the fields of `Codebook` that it keeps as the state.
    has_parameter: whether the codewords are a parameter, and no part of the
      state.
    has_sums: whether it needs the `sums` of `Statistics`.
    can_be_placed: whether codewords may be put elsewhere between updates.
    keeps_vectors: whether the vectors of the codebook stay as they are, so that
      only parameters which make codewords of them can learn.
  """

  decay: float = 0.99

  state_names: ClassVar[tuple[str, ...]] = _OF_A_CODEBOOK
  has_parameter: ClassVar[bool] = False
  has_sums: ClassVar[bool] = True
  can_be_placed: ClassVar[bool] = False
  keeps_vectors: ClassVar[bool] = False

  @property
  def uses_gradients(self) -> bool:
    """Whether codewords learn by the gradient of a loss."""
    return self.has_parameter or self.keeps_vectors

  def check(self) -> None:
    """Raises a ValueError, "FIELD is X; it must be Y", if one does not fit."""
    checks.check_at_least("decay", self.decay, 0)
    if self.decay >= 1:
      raise ValueError(f"decay is {self.decay}; it must be in [0, 1)")

  def init(
    self, key: jax.Array, codebook_size: int, embedding_dim: int
  ) -> Codebook:
    """Returns the first state, of which `state_names` are kept.

    Args:
      key: a PRNG key.
      codebook_size: N.
      embedding_dim: D.
    """
    return init_codebook(key, codebook_size, embedding_dim)

  @abc.abstractmethod
  def move(
    self, state: State, statistics: Statistics, shard_axis: str | None = None
  ) -> State:
    """Returns the state after a step.

    Args:
      state: `state_names`, before; `num_updates` too, where it is kept.
      statistics: of the step, over all devices.
      shard_axis: the mapped axis over which the codebook is cut.
    """

  def loss(self, batch: Batch, quantized: jax.Array) -> jax.Array | None:
    """Returns the codebook term, or None where it would reach no parameter.

    Args:
      batch: of the step.
      quantized: the codewords of its points, float32 `[T, D]`.
    """
    del batch, quantized
    return None


@dataclasses.dataclass(frozen=True)
class EmaUpdate(AbstractUpdate):
  """Moves codewords to the moving averages of the points assigned to them.

  As in section 2.1, and in appendix A.1 of van den Oord et al., 2017, "Neural
  Discrete Representation Learning"; see `ema_update`.

  Attributes:
    decay: gamma of the moving averages, in [0, 1).

  Example:
    >>> from adq_jax import EmaUpdate, VectorQuantizer
    >>> VectorQuantizer(512, 64, update=EmaUpdate(decay=0.9)).update
    EmaUpdate(decay=0.9)
  """

  can_be_placed: ClassVar[bool] = True

  def move(
    self, state: State, statistics: Statistics, shard_axis: str | None = None
  ) -> State:
    """Returns the state after a step; see `ema_update`."""
    del shard_axis
    moved = ema_update(
      Codebook(**state), statistics.counts, statistics.sums, self.decay
    )
    return moved.to_collection()


@dataclasses.dataclass(frozen=True)
class SmoothedEmaUpdate(AbstractUpdate):
  """Moves codewords to moving averages over Laplace-smoothed counts.

  As the code of the paper's authors does; see `smoothed_ema_update`.

  Attributes:
    decay: gamma of the moving averages, in [0, 1).

  Example:
    >>> from adq_jax import SmoothedEmaUpdate, VectorQuantizer
    >>> VectorQuantizer(512, 64, update=SmoothedEmaUpdate()).update
    SmoothedEmaUpdate(decay=0.99)
  """

  def init(
    self, key: jax.Array, codebook_size: int, embedding_dim: int
  ) -> Codebook:
    """Returns the first state; see `init_smoothed_codebook`."""
    return init_smoothed_codebook(key, codebook_size, embedding_dim)

  def move(
    self, state: State, statistics: Statistics, shard_axis: str | None = None
  ) -> State:
    """Returns the state after a step; see `smoothed_ema_update`."""
    moved = smoothed_ema_update(
      Codebook(**state),
      statistics.counts,
      statistics.sums,
      self.decay,
      shard_axis,
    )
    return moved.to_collection()


@dataclasses.dataclass(frozen=True)
class GradientUpdate(AbstractUpdate):
  """Makes the codewords a parameter, which the codebook term trains.

  That is the second term of eq. 3, and of the loss in van den Oord et al.,
  2017, "Neural Discrete Representation Learning".  The state counts how often
  codewords are used.  Where a `Placement` places codewords it also has how far
  these are from the parameter, the `offset`: a step may not set parameters.
  What an optimizer has averaged of a codeword's gradients stays as it was.

  Attributes:
    decay: gamma of the average of these counts, in [0, 1).
    codebook_cost: what the codebook term is multiplied by, 0 or more; 0 leaves
      it out, for an estimator that trains codewords alone, as `Directional`.

  Example:
    >>> import jax
    >>> from adq_jax import GradientUpdate, VectorQuantizer
    >>> quantizer = VectorQuantizer(512, 64, update=GradientUpdate())
    >>> z = jax.random.normal(jax.random.key(0), (8, 64))
    >>> variables = quantizer.init(jax.random.key(1), z)
    >>> variables["params"]["embedding"].shape
    (512, 64)
  """

  codebook_cost: float = 1.0

  state_names: ClassVar[tuple[str, ...]] = ("cluster_size",)
  has_parameter: ClassVar[bool] = True
  has_sums: ClassVar[bool] = False
  can_be_placed: ClassVar[bool] = True

  def check(self) -> None:
    """Raises a ValueError, "FIELD is X; it must be Y", if one does not fit."""
    super().check()
    checks.check_at_least("codebook_cost", self.codebook_cost, 0)

  def move(
    self, state: State, statistics: Statistics, shard_axis: str | None = None
  ) -> State:
    """Returns the state after a step: how often codewords are used."""
    del shard_axis
    size = state["cluster_size"]
    size = self.decay * size + (1 - self.decay) * statistics.counts
    return {"cluster_size": size}

  def loss(self, batch: Batch, quantized: jax.Array) -> jax.Array | None:
    """Returns the codebook term: how far codewords are from their points."""
    if not self.codebook_cost:
      return None
    return self.codebook_cost * masks.mean_square(
      jax.lax.stop_gradient(batch.points),
      quantized,
      batch.is_real,
      batch.axis_name,
    )


@dataclasses.dataclass(frozen=True)
class FrozenUpdate(GradientUpdate):
  """Keeps the vectors as they started: what makes codewords of them learns.

  For `LinearCodewords`, as in Zhu et al., 2024, "Addressing Representation
  Collapse in Vector Quantized Models with One Linear Layer" (SimVQ).  The
  vectors are normal, with variance 1 / D, and in the collection `"codebook"`:
  they belong to a checkpoint, but an optimizer never sees them.

  Attributes:
    decay: gamma of the average of how often codewords are used, in [0, 1).
    codebook_cost: what the codebook term is multiplied by, 0 or more.

  Example:
    >>> from adq_jax import FrozenUpdate, LinearCodewords, VectorQuantizer
    >>> quantizer = VectorQuantizer(
    ...   512, 64, update=FrozenUpdate(), codewords=LinearCodewords()
    ... )
    >>> quantizer.update.codebook_cost
    1.0
  """

  state_names: ClassVar[tuple[str, ...]] = ("embedding", "cluster_size")
  has_parameter: ClassVar[bool] = False
  can_be_placed: ClassVar[bool] = False
  keeps_vectors: ClassVar[bool] = True

  def init(
    self, key: jax.Array, codebook_size: int, embedding_dim: int
  ) -> Codebook:
    """Returns the first state, with vectors of length about 1."""
    codebook = super().init(key, codebook_size, embedding_dim)
    scale = float(embedding_dim) ** -0.5
    return codebook.replace(embedding=codebook.embedding * scale)

  def move(
    self, state: State, statistics: Statistics, shard_axis: str | None = None
  ) -> State:
    """Returns the state after a step, with the vectors as they were."""
    moved = super().move(state, statistics, shard_axis)
    return {"embedding": state["embedding"], **moved}


def init_smoothed_codebook(
  key: jax.Array, codebook_size: int, embedding_dim: int
) -> Codebook:
  """Returns the state that `smoothed_ema_update` starts from.

  Codewords and sums are sampled apart, and no point is counted.

  Args:
    key: a PRNG key.
    codebook_size: N.
    embedding_dim: D.
  """
  codebook = init_codebook(key, codebook_size, embedding_dim)
  sums = jax.random.normal(
    jax.random.fold_in(key, 1), codebook.embedding.shape, jnp.float32
  )
  return codebook.replace(
    cluster_size=jnp.zeros_like(codebook.cluster_size), embedding_sum=sums
  )


def ema_update(
  codebook: Codebook, counts: jax.Array, sums: jax.Array, decay: float
) -> Codebook:
  """Moves the codewords towards the mean of the points assigned to them.

  With g the decay: `cluster_size <- g cluster_size + (1-g) counts`,
  `embedding_sum <- g embedding_sum + (1-g) sums`, and their quotient becomes
  the embedding where counts > 0; elsewhere it keeps its bits.  (Section 2.1
  writes the factors of g the other way round.)

  Args:
    codebook: the state before.
    counts: points assigned to each codeword, over all devices, `[N]`.
    sums: the sums of those points, over all devices, `[N, D]`.
    decay: g, in [0, 1).
  """
  cluster_size = average(codebook.cluster_size, counts, decay)
  embedding_sum = average(codebook.embedding_sum, sums, decay)
  is_assigned = counts > 0
  # Where no point is assigned, cluster_size may have decayed to zero.
  size = jnp.where(is_assigned, cluster_size, 1.0)
  embedding = jnp.where(
    is_assigned[:, None], embedding_sum / size[:, None], codebook.embedding
  )
  return codebook.replace(
    embedding=embedding,
    cluster_size=cluster_size,
    embedding_sum=embedding_sum,
  )


def smoothed_ema_update(
  codebook: Codebook,
  counts: jax.Array,
  sums: jax.Array,
  decay: float,
  shard_axis: str | None = None,
) -> Codebook:
  """Moves all codewords to means with Laplace-smoothed counts.

  As in the code of the paper's authors, and much of PyTorch: with n the sum of
  the averaged counts, (count + e) / (n + N e) n is stored as the count, and
  every codeword is the averaged sum over it.  From `init_smoothed_codebook`,
  the first update throws codewords without points out to about 1e5.  As long as
  no point was ever counted, the state stays as it is.

  Args:
    codebook: the state before.
    counts: points assigned to each codeword, over all devices, `[N]`.
    sums: the sums of those points, over all devices, `[N, D]`.
    decay: g, in [0, 1).
    shard_axis: the mapped axis over which the codebook is cut.
  """
  size = average(codebook.cluster_size, counts, decay)
  total = collectives.total(size, shard_axis)
  codebook_size = len(size) * collectives.num_shards(shard_axis)
  size = (size + _SMOOTHING) / (total + codebook_size * _SMOOTHING) * total
  # Before the first point nothing could be divided by.
  is_counted = total > 0
  embedding_sum = average(codebook.embedding_sum, sums, decay)
  moved = codebook.replace(
    embedding=embedding_sum / jnp.where(is_counted, size, 1.0)[:, None],
    cluster_size=size,
    embedding_sum=embedding_sum,
  )
  return jax.tree.map(functools.partial(jnp.where, is_counted), moved, codebook)


def average(old: jax.Array, new: jax.Array, decay: float) -> jax.Array:
  """Returns g old + (1-g) new, elementwise."""
  # With two products, which of them is rounded before they are added is a
  # compiler's choice, and may differ between arrays of different sizes.  It may
  # also compute the average once more for an operation that reads it, and round
  # it in another way there.
  return jax.lax.optimization_barrier(new + decay * (old - new))
