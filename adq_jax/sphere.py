"""Points on the unit sphere.

Shapes: T points, D their width.
"""

import jax
import jax.numpy as jnp


def to_sphere(points: jax.Array) -> jax.Array:
  """Returns points float32 `[T, D]` with length 1, and 0 for zeros.

  Points shorter than about 1e-6 become shorter than 1, which bounds their
  gradient.
  """
  largest = jnp.abs(points).max(axis=-1, keepdims=True)
  # The result has no gradient to it: a longer point has the same direction.
  root = jnp.sqrt(jax.lax.stop_gradient(jnp.maximum(largest, 1e-6)))
  # Twice, since one over the largest numbers would be rounded to zero.
  points = points / root / root
  squares = jnp.square(points).sum(axis=-1, keepdims=True)
  return points * jax.lax.rsqrt(squares + 1e-12)
