"""Results that `jax.export` can write into a file."""

from typing import TypeVar

from jax import export

_Kind = TypeVar("_Kind", bound=type)


def serializable(kind: _Kind) -> _Kind:
  """Decorates a `flax.struct.dataclass` all of whose fields are trees.

  An exported function that takes or returns it can then be serialized.  Who
  reads that function needs the class too: it is found once `adq_jax` is
  imported.
  """
  export.register_pytree_node_serialization(
    kind,
    serialized_name=f"adq_jax.{kind.__name__}",
    # There is nothing beside the fields.
    serialize_auxdata=lambda nothing: b"",
    deserialize_auxdata=lambda nothing: (),
  )
  return kind
