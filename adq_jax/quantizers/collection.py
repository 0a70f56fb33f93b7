"""The collection "codebook" of a quantizer, which training changes.

Shapes: N codewords, D their width.
"""

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from adq_jax.codebook import shards
from adq_jax.codebook import state as codebooks
from adq_jax.codebook.placement import AbstractPlacement
from adq_jax.codebook.placement import MakeKey
from adq_jax.codebook.statistics import Batch
from adq_jax.codebook.statistics import Statistics
from adq_jax.codebook.updates import AbstractUpdate

COLLECTION = "codebook"  # and the rng stream for what is placed

_COUNT = "num_updates"
_OFFSET = "offset"


class CodebookCollection:
  """The state of one codebook, as variables of a module.

  It makes them in the module's `setup`, by the names that `update` keeps, and
  counts updates where `placement` needs it.  Where the vectors are a parameter,
  which a step cannot set, and are placed, the state has their offset from it.
  """

  def __init__(
    self,
    module: nn.Module,
    codebook_size: int,
    embedding_dim: int,
    *,
    update: AbstractUpdate,
    placement: AbstractPlacement,
    shard_axis: str | None,
    parameter: jax.Array | None = None,
  ):
    """Makes the variables where there are none yet, and checks those there are.

    Args:
      module: whose variables they are.
      codebook_size: N.
      embedding_dim: D.
      update: how codewords learn.
      placement: where they are placed.
      shard_axis: the mapped axis over which the codebook is cut.
      parameter: floating `[N, D]`, where the vectors are one; else None.

    Raises:
      ValueError: if the state is of another codebook.
    """
    # Not the module, which refers to this: a cycle would keep what is traced.
    self._scope = module.scope
    self._update = update
    self._placement = placement
    self._shard_axis = shard_axis
    self._parameter = parameter

    @functools.cache
    def initial() -> codebooks.Codebook:
      key = module.make_rng(COLLECTION)
      codebook = update.init(key, codebook_size, embedding_dim)
      initialized = jnp.array(not placement.waits_for_data)
      return codebook.replace(
        initialized=initialized, num_updates=jnp.zeros((), jnp.int32)
      )

    def make(name: str) -> jax.Array:
      if name == _OFFSET:
        return jnp.zeros((codebook_size, embedding_dim), jnp.float32)
      return getattr(initial(), name)

    names = update.state_names
    more = (_COUNT,) * placement.counts_updates
    if parameter is not None and placement.is_active:
      more += (_OFFSET, "initialized")
    for name in more:
      # A state that comes from elsewhere may lack it, until it is trained.
      if module.has_variable(COLLECTION, name) or module.is_mutable_collection(
        COLLECTION
      ):
        names += (name,)
    self._variables = {
      name: module.variable(COLLECTION, name, make, name) for name in names
    }
    values = self.values()
    is_shard = shard_axis is not None
    if is_shard:
      shards.check_shard(values["embedding"], codebook_size, shard_axis)
    codebooks.check_state(
      values, codebook_size, embedding_dim, is_shard=is_shard
    )

  def values(self) -> dict[str, jax.Array]:
    """Returns the state, by name."""
    return {name: each.value for name, each in self._variables.items()}

  def vectors(self) -> jax.Array:
    """Returns the vectors of the codebook, float32 `[N, D]`."""
    values = self.values()
    if self._parameter is None:
      return values["embedding"].astype(jnp.float32)
    parameter = self._parameter.astype(jnp.float32)
    return parameter + values[_OFFSET] if _OFFSET in values else parameter

  @property
  def size(self) -> int:
    """N, or N / n of a shard."""
    return len(self._variables["cluster_size"].value)

  def check_can_change(self) -> None:
    """Raises a ValueError if training cannot change it."""
    if not self._scope.is_mutable_collection(COLLECTION):
      raise ValueError(
        f'train=True updates the collection "{COLLECTION}", which is not'
        f' mutable; apply with mutable=["{COLLECTION}"]'
      )
    codebooks.check_dtypes(self.values())

  def move(self, statistics: Statistics) -> None:
    """Makes the update of a step."""
    moved = self._update.move(self.values(), statistics, self._shard_axis)
    if _COUNT in self._variables:
      moved[_COUNT] = self._variables[_COUNT].value + 1
    self._store({**self.values(), **moved})

  def place_before_search(self, batch: Batch) -> None:
    """Places the codewords that a step begins with."""
    self._place(self._placement.before_search, batch)

  def place_after_update(self, batch: Batch) -> None:
    """Places codewords once they have moved."""
    self._place(self._placement.after_update, batch)

  def _place(
    self,
    place: Callable[[MakeKey, codebooks.Codebook, Batch], codebooks.Codebook],
    batch: Batch,
  ) -> None:
    if self._placement.is_active:
      points = jax.lax.stop_gradient(batch.points)
      batch = dataclasses.replace(batch, points=points)
      before = self._codebook()
      after = place(self._make_key, before, batch)
      values = after.to_collection()
      if self._parameter is not None:
        is_placed = (after.embedding != before.embedding).any(axis=-1)
        parameter = jax.lax.stop_gradient(self._parameter.astype(jnp.float32))
        values[_OFFSET] = jnp.where(
          is_placed[:, None],
          after.embedding - parameter,
          self.values()[_OFFSET],
        )
      self._store(values)

  def _codebook(self) -> codebooks.Codebook:
    """Returns the state as what places codewords sees it."""
    values = self.values()
    if self._parameter is not None:
      del values[_OFFSET]
      vectors = jax.lax.stop_gradient(self.vectors())
      values["embedding"] = vectors
      values["embedding_sum"] = values["cluster_size"][:, None] * vectors
    return codebooks.Codebook(**values)

  def _store(self, values: dict[str, jax.Array]) -> None:
    for name, variable in self._variables.items():
      variable.value = values[name]

  def _make_key(self, reason: str) -> jax.Array:
    if not self._scope.has_rng(COLLECTION):
      raise ValueError(
        f"{reason} samples encodings in training, but the rng stream"
        f' "{COLLECTION}" is missing; apply with'
        f' rngs={{"{COLLECTION}": key}}, the same key on all devices'
      )
    return self._scope.make_rng(COLLECTION)


def update_each(
  codebooks: Sequence[Any], statistics: tuple[Statistics, ...]
) -> None:
  """Moves the codewords of several codebooks.

  Args:
    codebooks: applied modules, which have `update_codebook`.
    statistics: of each of them.

  Raises:
    ValueError: if there are not so many, or one is of another codebook, or
      the collection is not mutable or not in float32.
  """
  if not isinstance(statistics, tuple) or len(statistics) != len(codebooks):
    raise ValueError(
      f"statistics is a {type(statistics).__name__}; it must be a tuple of"
      f" {len(codebooks)} Statistics, one of each codebook"
    )
  for codebook, own in zip(codebooks, statistics, strict=True):
    codebook.update_codebook(own)
