"""Work on some of many places, whose number only the data tells."""

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
  places = jnp.pad(places, (0, size), constant_values=length)
  total = where.sum()

  def step(state):
    start, carry = state
    which = jax.lax.dynamic_slice(places, (start,), (size,))
    return start + size, function(carry, which)

  return jax.lax.while_loop(lambda state: state[0] < total, step, (0, carry))[1]
