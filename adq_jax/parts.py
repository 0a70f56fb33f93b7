"""Work on many points a part at a time, so that memory stays bounded.

Shapes: T points.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def for_each_part(
  where: jax.Array,
  carry: Any,
  function: Callable[[Any, jax.Array], Any],
  size: int,
) -> Any:
  """Calls a function with the places where `where` is true, part by part.

  Shapes stay fixed, and the time depends on the number of such places.

  Args:
    where: bool `[T]`.
    carry: a tree of arrays, the first argument of the first call.
    function: takes the carry and int32 `[size]` places, T where there are no
      more, and returns the next carry.
    size: places in one call, 1 or more.

  Returns:
    The last carry; after no call at all, the first.
  """
  length = len(where)
  places = jnp.nonzero(where, size=length, fill_value=length)[0]
  places = places.astype(jnp.int32)
  places = jnp.pad(places, (0, size), constant_values=length)
  total = where.sum(dtype=jnp.int32)

  def step(state):
    start, carry = state
    which = jax.lax.dynamic_slice(places, (start,), (size,))
    return start + size, function(carry, which)

  start = jnp.zeros((), jnp.int32)
  return jax.lax.while_loop(
    lambda state: state[0] < total, step, (start, carry)
  )[1]


def map_parts(function: Callable[[Any], Any], arrays: Any, size: int) -> Any:
  """Returns `function(arrays)`, computed for `size` points at a time.

  Only a part's intermediate results are in memory at once.  Up to `size`
  points are one part, and nothing is cut or copied.

  Args:
    function: maps one tree of arrays `[t, ...]` to another; each point's
      result must not depend on the others.
    arrays: a tree of arrays `[T, ...]`.
    size: points of one part, 1 or more.
  """
  num_parts, length = _count_parts(arrays, size)
  if not num_parts:
    return function(arrays)
  _, results = jax.lax.scan(
    lambda _, i: (None, function(_part(arrays, i, size))),
    None,
    jnp.arange(num_parts, dtype=jnp.int32),
  )
  results = jax.tree.map(
    lambda x: x.reshape(num_parts * size, *x.shape[2:]), results
  )
  if num_parts * size == length:
    return results
  rest = jax.tree.map(lambda x: x[num_parts * size :], arrays)
  return jax.tree.map(lambda *x: jnp.concatenate(x), results, function(rest))


def sum_parts(
  function: Callable[[Any], jax.Array], arrays: Any, size: int
) -> jax.Array:
  """Returns the sum of `function` over parts of `size` points.

  The order of additions depends on T and `size` alone.

  Args:
    function: maps a tree of arrays `[t, ...]` to an array whose shape does not
      depend on t: a sum over the points.
    arrays: a tree of arrays `[T, ...]`.
    size: points of one part, 1 or more.
  """
  num_parts, length = _count_parts(arrays, size)
  if not num_parts:
    return function(arrays)
  total, _ = jax.lax.scan(
    lambda total, i: (total + function(_part(arrays, i, size)), None),
    function(_part(arrays, 0, size)),
    jnp.arange(1, num_parts, dtype=jnp.int32),
  )
  if num_parts * size == length:
    return total
  rest = jax.tree.map(lambda x: x[num_parts * size :], arrays)
  return total + function(rest)


def _count_parts(arrays: Any, size: int) -> tuple[int, int]:
  """How many full parts a scan takes, 0 where one call does; and T."""
  length = len(jax.tree.leaves(arrays)[0])
  return (length // size if length > size else 0), length


def _part(arrays: Any, index: jax.Array | int, size: int) -> Any:
  return jax.tree.map(
    lambda x: jax.lax.dynamic_slice_in_dim(x, index * size, size), arrays
  )
