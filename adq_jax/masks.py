"""One rule for which points count, and which are padding.

A mask has 1 for a real point and 0 for padding, in any dtype.  A point either
counts or does not, so there are no weights: `checks.check_mask` refuses other
values where it can see them.  Under `jax.jit` it cannot, and only 1 is real
there.  A point that is not finite is padding.

Padding is replaced by zeros before anything is computed from it.  Leaving it
out of sums afterwards is not enough: its gradient is zero times something, and
zero times NaN is NaN.
"""

import jax
import jax.numpy as jnp
import numpy as np


def as_bool(
  mask: jax.Array | np.ndarray | None, shape: tuple[int, ...]
) -> jax.Array:
  """Returns where a mask is 1, bool of that shape.

  Args:
    mask: a mask that `checks.check_mask` accepts; None: every point is real.
    shape: of the mask.
  """
  if mask is None:
    return jnp.ones(shape, bool)
  mask = jnp.asarray(mask)
  return mask if mask.dtype == bool else mask == jnp.ones((), mask.dtype)


def finite_rows(x: jax.Array) -> jax.Array:
  """Returns which rows of x `[..., D]` are finite throughout, bool `[...]`."""
  return jnp.isfinite(x).all(axis=-1)


def keep(x: jax.Array, is_real: jax.Array) -> jax.Array:
  """Returns x with zeros for padding, and no gradient there.

  Args:
    x: `[..., more]`.
    is_real: bool `[...]`, True for a real point.

  Returns:
    `[..., more]`, in the dtype of x.
  """
  return jnp.where(_aligned(is_real, x), x, jnp.zeros((), x.dtype))


def keep_gradient(x: jax.Array, is_real: jax.Array) -> jax.Array:
  """Returns x as it is, with no gradient for padding.

  Args:
    x: `[..., more]`.
    is_real: bool `[...]`, True for a real point.

  Returns:
    `[..., more]`, in the dtype of x.
  """
  return jnp.where(_aligned(is_real, x), x, jax.lax.stop_gradient(x))


def with_nan(points: jax.Array, is_real: jax.Array) -> jax.Array:
  """Returns points `[T, D]` with NaN for those that do not count, `[T]`.

  So a search gives these the code 0, and who gathers points needs no mask.  No
  gradient goes to them.
  """
  return jnp.where(is_real[:, None], jax.lax.stop_gradient(points), jnp.nan)


def count(is_real: jax.Array, axis_name: str | None = None) -> jax.Array:
  """Returns the number of real points, float32 `[]`.

  Args:
    is_real: bool `[...]`, True for a real point.
    axis_name: the mapped axis over whose devices to add the numbers up; None
      for this device alone.
  """
  # As integers: a float32 that counts by ones stops at 2^24.
  total = is_real.sum(dtype=jnp.int32)
  if axis_name is not None:
    total = jax.lax.psum(total, axis_name)
  return total.astype(jnp.float32)


def mean(
  x: jax.Array, is_real: jax.Array, axis_name: str | None = None
) -> jax.Array:
  """The mean of x `[T]` over the real points, 0 where there is none.

  Args:
    x: float32 `[T]`; for a gradient, finite everywhere.
    is_real: bool `[T]`.
    axis_name: the mapped axis over which the batch is spread.  The results'
      mean over its devices is the mean over all real points of the batch,
      however these are spread, and so are the gradients'.
  """
  num_real = count(is_real)
  if axis_name is not None:
    num_real = jax.lax.pmean(num_real, axis_name)
  total = keep(x, is_real).sum()
  return total / jnp.where(num_real > 0, num_real, 1.0)


def mean_square(
  a: jax.Array,
  b: jax.Array,
  is_real: jax.Array,
  axis_name: str | None = None,
) -> jax.Array:
  """The mean of (a - b)^2 over real points and width.

  Args:
    a: float32 `[..., D]`.
    b: float32 `[..., D]`.
    is_real: bool `[...]`.
    axis_name: as in `mean`.
  """
  # Before the square, whose gradient would be NaN where a or b is.
  difference = keep(a - b, is_real)
  squares = jnp.square(difference).mean(axis=-1)
  return mean(squares.reshape(-1), is_real.reshape(-1), axis_name)


def _aligned(is_real: jax.Array, x: jax.Array) -> jax.Array:
  """Adds trailing axes to the mask, so that it broadcasts with x."""
  return is_real.reshape(*is_real.shape, *(1,) * (x.ndim - is_real.ndim))
