"""Samples of points, for codewords to be placed upon.

Shapes: T points, D their width.
"""

import jax
import jax.numpy as jnp

from adq_jax import collectives
from adq_jax import masks
from adq_jax.chunks import sum_chunks
from adq_jax.codebook.statistics import points_at_once

_NOISE = 0.01  # in standard deviations of the points


def sample(
  key: jax.Array, points: jax.Array, is_real: jax.Array, rows: jax.Array
) -> jax.Array:
  """Samples real points in random order, over and over, and adds the noise.

  Args:
    key: a PRNG key.
    points: `[T, D]`.
    is_real: bool `[T]`.
    rows: the codewords to sample for, int32 `[...]`.  What each gets does not
      depend on the others.

  Returns:
    `[..., D]`.
  """
  order_key, noise_key = jax.random.split(key)
  num_real = jnp.maximum(is_real.sum(dtype=jnp.int32), 1)
  rank = jax.random.uniform(order_key, is_real.shape, jnp.float32)
  order = jnp.argsort(jnp.where(is_real, rank, jnp.inf))
  sampled = points[order[rows % num_real]]
  std = _standard_deviation(points, is_real, num_real.astype(jnp.float32))
  noise = jax.vmap(
    lambda row: jax.random.normal(
      jax.random.fold_in(noise_key, row), sampled.shape[1:], jnp.float32
    )
  )(rows)
  scale = jax.lax.reduce_precision(_NOISE * std, 8, 7)
  return sampled + scale[None] * jax.lax.reduce_precision(noise, 8, 15)


def _standard_deviation(
  points: jax.Array, is_real: jax.Array, num_real: jax.Array
) -> jax.Array:
  """Returns the standard deviation of the real points, `[D]`.

  It is rounded alike on any number of devices.
  """

  def mean_of(function) -> jax.Array:
    total = sum_chunks(
      lambda part: collectives.add_up(masks.keep(function(part[0]), part[1])),
      (points, is_real),
      points_at_once(points.shape[1]),
    )
    return total / num_real

  mean = mean_of(lambda points: points)

  def squared_deviations(points: jax.Array) -> jax.Array:
    # Products of 12 and 12 bits, or 8 and 16, are exact.  Whether a compiler
    # rounds before it adds makes no difference then, and so no number of
    # devices.
    deviations = jax.lax.reduce_precision(points - mean[None], 8, 11)
    return jnp.square(deviations)

  return jnp.sqrt(mean_of(squared_deviations))
