"""The state of one codebook.

Shapes: N codewords, D their width.
"""

from collections.abc import Mapping
import dataclasses
from typing import Any
from typing import TypeVar

import flax
import jax
import jax.numpy as jnp
import numpy as np

from adq_jax import checks
from adq_jax import masks
from adq_jax.checks import AnyArray
from adq_jax.serialization import serializable

_State = TypeVar("_State")


@serializable
@flax.struct.dataclass
class Codebook:
  """The state of one codebook.

  Attributes:
    embedding: the codewords, float32 `[N, D]`.
    cluster_size: moving average of the points per step that are assigned to a
      codeword, float32 `[N]`.
    embedding_sum: moving average of the sum of those points, float32 `[N, D]`.
    initialized: whether the codewords have their first values, bool `[]`.
    num_updates: the updates that were made, int32 `[]`; None where nothing
      depends on it.
  """

  embedding: jax.Array
  cluster_size: jax.Array
  embedding_sum: jax.Array
  initialized: jax.Array
  num_updates: jax.Array | None = None

  def to_collection(self) -> dict[str, jax.Array]:
    """Returns the state as `variables["codebook"]` of a quantizer has it."""
    values = {
      field.name: getattr(self, field.name)
      for field in dataclasses.fields(self)
    }
    return {name: x for name, x in values.items() if x is not None}


def init_codebook(
  key: jax.Array, codebook_size: int, embedding_dim: int
) -> Codebook:
  """Returns standard normal codewords, each counted once.

  Args:
    key: a PRNG key.
    codebook_size: N.
    embedding_dim: D.
  """
  return codebook_from(
    jax.random.normal(key, (codebook_size, embedding_dim), jnp.float32)
  )


def codebook_from(
  embedding: AnyArray, cluster_size: AnyArray | float = 1.0
) -> Codebook:
  """Returns the state of a codebook that has these codewords.

  For codewords that come from elsewhere, such as k-means or another model.
  Setting `embedding` alone would not do: the next update makes the codewords
  of `embedding_sum` again.

      codebook = codebook_from(embedding).to_collection()
      variables = {**variables, "codebook": codebook}

  Args:
    embedding: the codewords, floating `[N, D]`, finite.
    cluster_size: how many points each codeword stands for, positive: a number,
      or `[N]`.  The larger, the less a step moves them.

  Raises:
    ValueError: if a shape, dtype or value does not fit.
  """
  checks.check_floating("embedding", embedding, rank=2)
  embedding = jnp.asarray(embedding, jnp.float32)
  shape = embedding.shape[:1]
  if jnp.ndim(cluster_size):
    why = "a count for each codeword, or one number"
    checks.check_shape("cluster_size", cluster_size, shape, why)
  size = jnp.broadcast_to(jnp.asarray(cluster_size, jnp.float32), shape)
  _check_values("embedding", embedding, jnp.isfinite, "finite")
  _check_values("cluster_size", size, lambda x: x > 0, "positive")
  return Codebook(
    embedding=embedding,
    cluster_size=size,
    # An array of its own, whatever the factor: one that is in a state twice
    # cannot be donated.
    embedding_sum=jnp.array(size[:, None] * embedding, copy=True),
    initialized=jnp.array(True),
  )


def _check_values(name: str, x: jax.Array, is_good: Any, wanted: str) -> None:
  if isinstance(x, jax.core.Tracer):
    return
  bad = np.asarray(x)[~np.asarray(is_good(x))]
  if bad.size:
    raise ValueError(f"{name} has the value {bad.flat[0]}; it must be {wanted}")


def check_state(
  state: Mapping[str, jax.Array],
  codebook_size: int,
  embedding_dim: int,
  *,
  is_shard: bool = False,
) -> None:
  """Raises a ValueError unless a collection is of a codebook of that structure.

  Args:
    state: some or all fields of a `Codebook`, by name.
    codebook_size: N.
    embedding_dim: D.
    is_shard: whether it holds some of the codewords; how many, is for
      `shards.check_shard` to say.
  """
  size = len(state["embedding"]) if is_shard else codebook_size
  shapes = {
    "embedding": (size, embedding_dim),
    "cluster_size": (size,),
    "embedding_sum": (size, embedding_dim),
    "offset": (size, embedding_dim),
    "initialized": (),
    "num_updates": (),
  }
  for name, value in state.items():
    checks.check_shape(
      f'{name} in the collection "codebook"',
      value,
      shapes[name],
      f"for codebook_size={codebook_size} and embedding_dim={embedding_dim}",
    )


def check_dtypes(state: Mapping[str, jax.Array]) -> None:
  """Raises a ValueError unless averages are float32: others stop moving."""
  others = {"initialized": "bool", "num_updates": "int32"}
  for name, value in state.items():
    wanted = jnp.dtype(others.get(name, "float32"))
    if value.dtype != wanted:
      raise ValueError(
        f'{name} in the collection "codebook" has dtype {value.dtype}; moving'
        f' averages need {wanted}: cast variables["params"] alone'
      )


def freeze_codewords(
  before: _State, after: _State, is_frozen: AnyArray
) -> _State:
  """Returns the state after a step, with some codewords as they were before.

  They keep their bits and their averages, whatever the update and the placing
  of dead codewords did.  All others learn as if these were not frozen.

      result, updated = quantizer.apply(variables, z, train=True, ...)
      codebook = freeze_codewords(
        variables["codebook"], updated["codebook"], is_frozen
      )

  Args:
    before: the state of one codebook, a `Codebook` or a collection.
    after: the same after the step.
    is_frozen: bool `[N]`; of a sharded codebook, this device's part.

  Raises:
    ValueError: if `is_frozen` is not bool or not one for each codeword.
  """
  size = len(jax.tree.leaves(before)[0])
  checks.check_mask("is_frozen", is_frozen, (size,), "one for each codeword")
  is_frozen = masks.as_bool(is_frozen, (size,))

  def choose(old: jax.Array, new: jax.Array) -> jax.Array:
    if not jnp.ndim(old):
      return new
    return jnp.where(is_frozen.reshape(-1, *(1,) * (old.ndim - 1)), old, new)

  return jax.tree.map(choose, before, after)
