"""Codewords that are placed upon encodings: the first ones, and dead ones.

Shapes: T points, N codewords, D their width.  A mask `[T]` is 1 for a real
point and 0 for padding; `axis_name` names the mapped axis (of `jax.pmap`, say)
over whose devices a batch is spread, `shard_axis` the one over which the
codebook is cut (see `adq_jax.codebook.shards`): a device then has N / n of its
rows, and the same comes out as for the whole.
"""

import abc
from collections.abc import Callable
import dataclasses

import jax
import jax.numpy as jnp

from adq_jax import checks
from adq_jax import collectives
from adq_jax import masks
from adq_jax import options
from adq_jax.chunks import map_chunks
from adq_jax.codebook import kmeans
from adq_jax.codebook import samples
from adq_jax.codebook.state import Codebook
from adq_jax.codebook.statistics import Batch
from adq_jax.codebook.statistics import points_at_once

_INITS = ("normal", "data", "kmeans")

MakeKey = Callable[[str], jax.Array]


class AbstractPlacement(options.Option, abc.ABC):
  """What a slot `placement` takes: a frozen dataclass.

  Its methods are called in every training step.  `make_key(reason)` returns a
  PRNG key, the same on every device; a step that makes none needs no rng
  stream.
  """

  @property
  @abc.abstractmethod
  def waits_for_data(self) -> bool:
    """Whether the first codewords are to be replaced by `before_search`."""

  @property
  @abc.abstractmethod
  def is_active(self) -> bool:
    """Whether it places anything, ever."""

  @property
  def counts_updates(self) -> bool:
    """Whether it needs `num_updates` of the state."""
    return False

  @abc.abstractmethod
  def before_search(
    self,
    make_key: MakeKey,
    codebook: Codebook,
    batch: Batch,
  ) -> Codebook:
    """Returns the state that points are compared with.

    Args:
      make_key: reason -> a PRNG key.
      codebook: the state before.
      batch: of the step.
    """

  @abc.abstractmethod
  def after_update(
    self,
    make_key: MakeKey,
    codebook: Codebook,
    batch: Batch,
  ) -> Codebook:
    """Returns the state that the next step starts from.

    Args:
      make_key: reason -> a PRNG key.
      codebook: the state after the update.
      batch: of the step.
    """


@dataclasses.dataclass(frozen=True)
class Placement(AbstractPlacement):
  """Places codewords upon encodings: the first ones, and those hardly used.

  Where it does so, training needs the rng stream `"codebook"`.

  Attributes:
    init: one of

      - `"normal"`: codewords start standard normal, as in the paper.
      - `"data"`: at the first training step they become encodings of its
        batch.
      - `"kmeans"`: from there k-means moves them to the means of clusters of
        that batch, as in Zeghidour et al., 2021, "SoundStream".  No other batch
        is seen, so it should have many more points than there are codewords: 39
        a codeword is where Faiss warns.  Of a few points each the means follow
        the noise of this batch.  With fewer points than codewords hardly any of
        these moves, and it is `"data"` at a higher price.

    revive_below: a codeword that is used less often than this share of the mean
      becomes an encoding again, as in Dhariwal et al., 2020, "Jukebox", section
      3; see `revive_dead_codes`.  0: never.
    revive_updates: the first updates in which codewords do so; 0: all.  A
      price of bits makes some codewords rare, and these should stay so in the
      end.
    kmeans_iterations: of `"kmeans"`, 1 or more.  Each takes as long as a search
      and an update, at the first step alone.

  Example:
    >>> from adq_jax import Placement, VectorQuantizer
    >>> placement = Placement(init="data", revive_below=0.1)
    >>> VectorQuantizer(512, 64, placement=placement).placement.revive_below
    0.1
  """

  init: str = "normal"
  revive_below: float = 0.0
  revive_updates: int = 0
  kmeans_iterations: int = 10

  def check(self) -> None:
    """Raises a ValueError, "FIELD is X; it must be Y", if one does not fit."""
    checks.check_choice("init", self.init, _INITS)
    checks.check_at_least("revive_below", self.revive_below, 0)
    checks.check_count("revive_updates", self.revive_updates, 0)
    checks.check_count("kmeans_iterations", self.kmeans_iterations)

  @property
  def waits_for_data(self) -> bool:
    """Whether codewords start upon data."""
    return self.init != "normal"

  @property
  def is_active(self) -> bool:
    """Whether codewords start upon data, or come to life again."""
    return self.waits_for_data or self.revive_below > 0

  @property
  def counts_updates(self) -> bool:
    """Whether codewords come to life again in the first updates alone."""
    return self.revive_below > 0 and self.revive_updates > 0

  def before_search(
    self,
    make_key: MakeKey,
    codebook: Codebook,
    batch: Batch,
  ) -> Codebook:
    """Returns the state with its first values, if it has none yet."""
    if not self.waits_for_data:
      return codebook
    placed = initialize_from_data(
      make_key(f"placement.init is {self.init!r}, which"),
      codebook,
      batch.points,
      mask=batch.is_real,
      axis_name=batch.axis_name,
      shard_axis=batch.shard_axis,
    )
    if self.init != "kmeans":
      return placed
    return jax.lax.cond(
      placed.initialized & ~codebook.initialized,
      lambda placed: kmeans.refine(placed, batch, self.kmeans_iterations),
      lambda placed: placed,
      placed,
    )

  def after_update(
    self,
    make_key: MakeKey,
    codebook: Codebook,
    batch: Batch,
  ) -> Codebook:
    """Returns the state with the codewords revived that are hardly used."""
    if not self.revive_below:
      return codebook
    threshold = self.revive_below
    if self.counts_updates:
      is_early = codebook.num_updates <= self.revive_updates
      threshold = jnp.where(is_early, threshold, 0.0)
    return revive_dead_codes(
      make_key(f"placement.revive_below is {self.revive_below}, which"),
      codebook,
      batch.points,
      threshold,
      mask=batch.is_real,
      axis_name=batch.axis_name,
      shard_axis=batch.shard_axis,
    )


def initialize_from_data(
  key: jax.Array,
  codebook: Codebook,
  points: jax.Array,
  *,
  mask: jax.Array | None = None,
  axis_name: str | None = None,
  shard_axis: str | None = None,
) -> Codebook:
  """Gives a codebook its first codewords: encodings of the global batch.

  They are placed as `revive_dead_codes` places them.  A codebook that has its
  first codewords stays as it is, and a batch without a real point leaves it
  waiting for the next one.

  Args:
    key: a PRNG key, the same on every device.
    codebook: the state before.
    points: this device's encodings, float32 `[T, D]`.
    mask: 1 for a real point, `[T]`.
    axis_name: the mapped axis over which the batch is spread.
    shard_axis: the one over which the codebook is cut.
  """
  is_first = ~codebook.initialized
  placed, is_placed = _place(
    key,
    codebook,
    jnp.broadcast_to(is_first, codebook.cluster_size.shape),
    points,
    mask,
    axis_name,
    shard_axis,
  )
  return placed.replace(initialized=codebook.initialized | is_placed)


def revive_dead_codes(
  key: jax.Array,
  codebook: Codebook,
  points: jax.Array,
  threshold: float | jax.Array,
  *,
  mask: jax.Array | None = None,
  axis_name: str | None = None,
  shard_axis: str | None = None,
) -> Codebook:
  """Places codewords that are hardly used upon encodings of the batch.

  A codeword whose cluster_size is below `threshold` times the mean becomes an
  encoding sampled from the whole global batch, no encoding twice before all are
  used once, plus noise of 1% of the encodings' standard deviation: equal
  codewords would never part.  Its cluster_size becomes the mean and its
  embedding_sum matches, so that the next update does not undo it.

  Args:
    key: a PRNG key, the same on every device.
    codebook: the state before.
    points: this device's encodings, float32 `[T, D]`.
    threshold: a share of the mean cluster_size.
    mask: 1 for a real point, `[T]`.
    axis_name: the mapped axis over which the batch is spread.
    shard_axis: the one over which the codebook is cut.
  """
  size = codebook.cluster_size
  is_dead = size < threshold * collectives.mean(size, shard_axis)
  revived, _ = _place(
    key, codebook, is_dead, points, mask, axis_name, shard_axis
  )
  return revived


def _place(
  key: jax.Array,
  codebook: Codebook,
  where: jax.Array,
  points: jax.Array,
  mask: jax.Array | None,
  axis_name: str | None,
  shard_axis: str | None,
) -> tuple[Codebook, jax.Array]:
  """Returns the state with some codewords placed, and whether it could be.

  Args:
    key: a PRNG key, the same on every device.
    codebook: the state before.
    where: which codewords to place, bool `[N]`.
    points: this device's encodings, float32 `[T, D]`.
    mask: 1 for a real point, `[T]`.
    axis_name: the mapped axis over which the batch is spread.
    shard_axis: the one over which the codebook is cut.
  """
  is_real = masks.as_bool(mask, points.shape[:1])
  size = points_at_once(points.shape[1])
  is_real &= map_chunks(masks.finite_rows, points, size)

  def place(codebook: Codebook) -> tuple[Codebook, jax.Array]:
    batch, is_candidate = points, is_real
    if axis_name is not None:
      # By one gather: a program that is read from JAX's cache of compiled ones
      # may take two that do not depend on each other in any order, on a CPU.
      seen = jnp.where(is_real[:, None], points, jnp.nan)
      batch = collectives.gather(seen, axis_name)
      is_candidate = masks.finite_rows(batch)
    if not len(batch):
      return codebook, jnp.array(False)
    rows = collectives.rows_of_shard(len(where), shard_axis)
    sampled = samples.sample(key, batch, is_candidate, rows)
    can_place = is_candidate.any()
    is_placed = where & can_place
    size = collectives.mean(codebook.cluster_size, shard_axis)
    return (
      codebook.replace(
        embedding=jnp.where(is_placed[:, None], sampled, codebook.embedding),
        cluster_size=jnp.where(is_placed, size, codebook.cluster_size),
        embedding_sum=jnp.where(
          is_placed[:, None], size * sampled, codebook.embedding_sum
        ),
      ),
      can_place,
    )

  # Most steps place nothing, and then need not gather.  All devices must agree
  # on it; they do where they hold the same codebook.
  is_any = where.any()
  if shard_axis is not None:
    is_any = jax.lax.pmax(is_any.astype(jnp.int32), shard_axis) > 0
  return jax.lax.cond(
    is_any,
    place,
    lambda codebook: (codebook, jnp.array(False)),
    codebook,
  )
