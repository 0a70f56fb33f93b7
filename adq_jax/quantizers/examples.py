"""Randomness that belongs to an example, and not to the batch that it is in.

Shapes: B examples.
"""

import jax
import jax.numpy as jnp

from adq_jax import checks


def index_of(
  count: int, example_index: jax.Array | None, axis_name: str | None
) -> jax.Array:
  """Returns what tells the examples of a batch apart, int `[B]`.

  Args:
    count: B.
    example_index: int `[B]`, returned as it is; None for the examples' places
      in the batch of all devices.
    axis_name: the mapped axis over which this batch is spread.

  Raises:
    ValueError: if there is not an index for each example.
  """
  if example_index is None:
    example_index = jnp.arange(count, dtype=jnp.int32)
    if axis_name is not None:
      example_index += count * jax.lax.axis_index(axis_name)
  checks.check_integer("example_index", example_index)
  checks.check_shape(
    "example_index", example_index, (count,), "one for each example"
  )
  return example_index


def keys_of(key: jax.Array, example_index: jax.Array) -> jax.Array:
  """Returns a PRNG key for each example, `[B]`.

  Args:
    key: a PRNG key, the same for all examples.
    example_index: what tells examples apart, int `[B]`.
  """
  return jax.vmap(jax.random.fold_in, (None, 0))(key, example_index)
