"""Points on the unit sphere.

Shapes: T points, D their width.
"""

import jax
import jax.numpy as jnp


def to_sphere(points: jax.Array) -> jax.Array:
  """Returns points float32 `[T, D]` with length 1, and 0 for zeros.

  The gradient to a point p, of length |p| and direction u = p / |p|, is
  (I - u u^T) / |p| times that of the result.  So the length of a point has no
  gradient, and short points have a large one.  A point of zeros has no
  direction, and its gradient is 0.  Points shorter than about 1e-12 become
  shorter than 1.
  """
  largest = jnp.abs(points).max(axis=-1, keepdims=True)
  # The result has no gradient to it: a longer point has the same direction.
  root = jnp.sqrt(jax.lax.stop_gradient(jnp.maximum(largest, 1e-6)))
  # A power of two, by which no number is rounded.
  root = jax.lax.reduce_precision(root, 8, 0)
  # Twice, since one over the largest numbers would be rounded to zero.
  points = points / root / root
  squares = jnp.square(points).sum(axis=-1, keepdims=True)
  points *= jax.lax.rsqrt(squares + 1e-12)
  return jnp.where(largest > 0, points, 0.0)
