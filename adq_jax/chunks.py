"""Applies functions to many points a chunk at a time, to bound memory.

Shapes: T points.

T may be symbolic, in a function that `jax.export` exports for any batch.  Then
the number of chunks is not known, so chunks are small, and the last is padded.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax import export
import jax.numpy as jnp

from adq_jax import collectives

_OF_SYMBOLIC = 256  # points in a chunk where T is symbolic


def most_in_chunk(length: int, size: int) -> int:
  """Returns the largest number of points that a function is called with.

  Args:
    length: T.
    size: the number of points in a chunk.
  """
  if export.is_symbolic_dim(length):
    return min(size, _OF_SYMBOLIC)
  return min(size, length)


def for_each_chunk(
  where: jax.Array,
  carry: Any,
  function: Callable[[Any, jax.Array], Any],
  size: int,
) -> Any:
  """Calls a function, in chunks of fixed size, on the true entries of a mask.

  Only the data tells how many entries are true.  Shapes stay fixed all the
  same, and the time grows with the number of true entries.

  Args:
    where: bool `[T]`.
    carry: a tree of arrays, the first argument of the first call.
    function: takes the carry and the indices int32 `[size]` of true entries,
      and returns the next carry.  The last chunk is filled up with T.
    size: the number of entries in one call, 1 or more.

  Returns:
    The carry of the last call; without any call, `carry` itself.
  """
  length = where.shape[0]
  # As jnp.nonzero, whose sums of all entries before one take long to compile.
  indices = jnp.arange(length, dtype=jnp.int32)
  indices = jnp.sort(jnp.where(where, indices, length))
  indices = jnp.pad(indices, (0, size), constant_values=length)
  total = where.sum(dtype=jnp.int32)

  def step(state):
    start, carry = state
    chunk = jax.lax.dynamic_slice(indices, (start,), (size,))
    return start + size, function(carry, chunk)

  start = jnp.zeros((), jnp.int32)
  carry = collectives.vary_as(carry, where)
  return jax.lax.while_loop(
    lambda state: state[0] < total, step, (start, carry)
  )[1]


def map_chunks(function: Callable[[Any], Any], arrays: Any, size: int) -> Any:
  """Returns `function(arrays)`, computed for `size` points at a time.

  Only one chunk's intermediate results are in memory at once.  Up to `size`
  points are a single chunk, and nothing is cut or copied.

  Args:
    function: maps one tree of arrays `[t, ...]` to another; each point's
      result must not depend on the others.
    arrays: a tree of arrays `[T, ...]`.
    size: the number of points in a chunk, 1 or more.

  Returns:
    A tree of arrays `[T, ...]`, the results in the order of the points.
  """
  if export.is_symbolic_dim(_length(arrays)):
    return _map_symbolic(function, arrays, size)
  num_chunks, length = _count_chunks(arrays, size)
  if not num_chunks:
    return function(arrays)
  _, results = jax.lax.scan(
    lambda _, i: (None, function(_chunk(arrays, i, size))),
    None,
    jnp.arange(num_chunks, dtype=jnp.int32),
  )
  results = jax.tree.map(
    lambda x: x.reshape(num_chunks * size, *x.shape[2:]), results
  )
  if num_chunks * size == length:
    return results
  rest = jax.tree.map(lambda x: x[num_chunks * size :], arrays)
  return jax.tree.map(lambda *x: jnp.concatenate(x), results, function(rest))


def _map_symbolic(
  function: Callable[[Any], Any], arrays: Any, size: int
) -> Any:
  """Returns what `map_chunks` does, for a symbolic number of points."""
  length = _length(arrays)
  size = most_in_chunk(length, size)
  num_chunks = (length + size - 1) // size
  filler = num_chunks * size - length

  def cut(x: jax.Array) -> jax.Array:
    filled = jnp.pad(x, ((0, filler), *((0, 0),) * (x.ndim - 1)))
    return filled.reshape(num_chunks, size, *x.shape[1:])

  results = jax.lax.map(function, jax.tree.map(cut, arrays))
  return jax.tree.map(
    lambda x: x.reshape(num_chunks * size, *x.shape[2:])[:length], results
  )


def sum_chunks(
  function: Callable[[Any], jax.Array], arrays: Any, size: int
) -> jax.Array:
  """Returns the sum of `function` over chunks of `size` points.

  The order of additions depends on T and `size` alone.

  Args:
    function: maps a tree of arrays `[t, ...]` to an array whose shape does not
      depend on t: a sum over the points.
    arrays: a tree of arrays `[T, ...]`.
    size: the number of points in a chunk, 1 or more.

  Raises:
    ValueError: if T is symbolic.
  """
  length = _length(arrays)
  if export.is_symbolic_dim(length):
    raise ValueError(
      f"there are {length} points, a symbolic number; a sum over a batch needs"
      " a known one: export encode and decode alone for any batch"
    )
  num_chunks, length = _count_chunks(arrays, size)
  if not num_chunks:
    return function(arrays)
  total, _ = jax.lax.scan(
    lambda total, i: (total + function(_chunk(arrays, i, size)), None),
    function(_chunk(arrays, 0, size)),
    jnp.arange(1, num_chunks, dtype=jnp.int32),
  )
  if num_chunks * size == length:
    return total
  rest = jax.tree.map(lambda x: x[num_chunks * size :], arrays)
  return total + function(rest)


def _count_chunks(arrays: Any, size: int) -> tuple[int, int]:
  """How many full chunks a scan takes, 0 where one call is enough; and T."""
  length = _length(arrays)
  return (length // size if length > size else 0), length


def _length(arrays: Any) -> int:
  return jax.tree.leaves(arrays)[0].shape[0]


def _chunk(arrays: Any, index: jax.Array | int, size: int) -> Any:
  return jax.tree.map(
    lambda x: jax.lax.dynamic_slice_in_dim(x, index * size, size), arrays
  )
