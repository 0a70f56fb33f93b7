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


class CodebookCollection:
  """The state of one codebook, as variables of a module.

  It makes them in the module's `setup`, by the names that `update` keeps, and
  counts updates where `placement` needs it.
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
  ):
    """Makes the variables where there are none yet, and checks those there are.

    Args:
      module: whose variables they are.
      codebook_size: N.
      embedding_dim: D.
      update: how codewords learn.
      placement: where they are placed.
      shard_axis: the mapped axis over which the codebook is cut.

    Raises:
      ValueError: if the state is of another codebook.
    """
    # Not the module, which refers to this: a cycle would keep what is traced.
    self._scope = module.scope
    self._update = update
    self._placement = placement
    self._shard_axis = shard_axis

    @functools.cache
    def initial() -> codebooks.Codebook:
      key = module.make_rng(COLLECTION)
      codebook = update.init(key, codebook_size, embedding_dim)
      initialized = jnp.array(not placement.waits_for_data)
      return codebook.replace(
        initialized=initialized, num_updates=jnp.zeros((), jnp.int32)
      )

    # A state that comes from elsewhere may lack it, until it is trained.
    has_count = placement.counts_updates and (
      module.has_variable(COLLECTION, _COUNT)
      or module.is_mutable_collection(COLLECTION)
    )
    names = update.state_names + (_COUNT,) * has_count
    self._variables = {
      name: module.variable(
        COLLECTION, name, lambda name: getattr(initial(), name), name
      )
      for name in names
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
    self._store(moved)

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
      codebook = codebooks.Codebook(**self.values())
      self._store(place(self._make_key, codebook, batch).to_collection())

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
