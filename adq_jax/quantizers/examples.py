"""Randomness that belongs to an example, and not to the batch that it is in.

Shapes: B examples, T points, which are their positions.
"""

import math

import flax.linen as nn
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


def keys_of_points(
  key: jax.Array, shape: tuple[int, ...], example_index: jax.Array
) -> jax.Array:
  """Returns a PRNG key for each point, `[T]`.

  It depends on the example and on the place within it.

  Args:
    key: a PRNG key, the same for all examples.
    shape: `[B, ...]` of the points, T in all.
    example_index: what tells examples apart, int `[B]`.
  """
  count, *rest = shape
  places = jnp.arange(math.prod(rest), dtype=jnp.int32)
  keys = jax.vmap(jax.vmap(jax.random.fold_in, (None, 0)), (0, None))(
    keys_of(key, example_index), places
  )
  return keys.reshape(count * places.size, *keys.shape[2:])


def key_of_draw(
  module: nn.Module, is_update: bool, draw: bool | jax.Array | None, what: str
) -> jax.Array | None:
  """Returns the key of a quantizer's sample; None where it takes none.

  Args:
    module: the quantizer, whose rng stream `"gumbel"` it takes.
    is_update: whether it is for a step of training.
    draw: whether it is sampled; may be traced.  None: in training.
    what: whose choice is sampled.

  Raises:
    ValueError: if it is sampled, and the rng stream is missing.
  """
  if draw is False or (draw is None and not is_update):
    return None
  if not module.has_rng("gumbel"):
    raise ValueError(
      f'the choice of {what} is sampled, but the rng stream "gumbel" is'
      ' missing; apply with rngs={"gumbel": key}, or with draw=False'
    )
  return module.make_rng("gumbel")


def keys_of_module(
  module: nn.Module,
  shape: tuple[int, ...],
  is_update: bool,
  draw: bool | jax.Array | None,
  example_index: jax.Array | None,
  axis_name: str | None,
) -> jax.Array | None:
  """Returns a PRNG key for each point `[T]`; None where no code is sampled.

  Args:
    module: the quantizer, whose rng stream `"gumbel"` it takes.
    shape: `[B, ...]` of the points, or `[]` of one.
    is_update: whether it is for a step of training.
    draw: whether codes are sampled; may be traced.  None: in training.
    example_index: as of `index_of`, as is `axis_name`.
    axis_name: the mapped axis.

  Raises:
    ValueError: if codes are sampled, and the rng stream is missing.
  """
  key = key_of_draw(module, is_update, draw, "a codeword")
  if key is None:
    return None
  shape = shape or (1,)
  index = index_of(shape[0], example_index, axis_name)
  return keys_of_points(key, shape, index)
