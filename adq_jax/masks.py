"""Which points count: one rule for padding, and for points that are not finite.

A mask is 1 for a real point and 0 for padding, of any dtype.  Nothing else is
ever weighed: `checks.check_mask` refuses other values where it can see them,
and where it cannot, under `jax.jit`, only 1 is real.  A point that is not
finite counts as padding.

What does not count is replaced by zeros before anything is computed of it, and
not only left out of sums afterwards: a gradient multiplies by zero, and zero
times NaN is NaN.
"""

import jax
import jax.numpy as jnp
import numpy as np


def as_bool(
  mask: jax.Array | np.ndarray | None, shape: tuple[int, ...]
) -> jax.Array:
  """Returns where a checked mask is 1, bool of that shape; all for None."""
  if mask is None:
    return jnp.ones(shape, bool)
  mask = jnp.asarray(mask)
  return mask if mask.dtype == bool else mask == jnp.ones((), mask.dtype)


def finite_rows(x: jax.Array) -> jax.Array:
  """Returns which of `[..., D]` are finite throughout, bool `[...]`."""
  return jnp.isfinite(x).all(axis=-1)


def keep(x: jax.Array, is_real: jax.Array) -> jax.Array:
  """Returns x with zeros where it does not count, and no gradient there.

  Args:
    x: `[..., more]`.
    is_real: bool `[...]`.
  """
  return jnp.where(_aligned(is_real, x), x, jnp.zeros((), x.dtype))


def keep_gradient(x: jax.Array, is_real: jax.Array) -> jax.Array:
  """Returns x as it is, with no gradient where it does not count.

  The arguments are those of `keep`.
  """
  return jnp.where(_aligned(is_real, x), x, jax.lax.stop_gradient(x))


def count(is_real: jax.Array, axis_name: str | None = None) -> jax.Array:
  """Returns how many are true, float32 `[]`, over the mapped axis if any."""
  # As integers: a float32 that counts by ones stops at 2^24.
  total = is_real.sum(dtype=jnp.int32)
  if axis_name is not None:
    total = jax.lax.psum(total, axis_name)
  return total.astype(jnp.float32)


def _aligned(is_real: jax.Array, x: jax.Array) -> jax.Array:
  """Trailing axes for the mask, so that it goes with x."""
  return is_real.reshape(*is_real.shape, *(1,) * (x.ndim - is_real.ndim))
