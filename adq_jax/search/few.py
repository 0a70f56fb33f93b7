"""Exact search for the few nearest codewords.

Shapes: T points, N codewords, D their width, K codewords for each point.
"""

import functools

import jax
import jax.numpy as jnp

from adq_jax.chunks import map_chunks
from adq_jax.search.distances import sum_of_squares
from adq_jax.search.nearest import points_at_once
from adq_jax.search.nearest import prepare_codewords
from adq_jax.search.nearest import prepare_points

_BLOCK = 1024  # codewords that points are compared with in one step


@functools.partial(jax.jit, static_argnums=2)  # traced once for a shape
def nearest_few(
  points: jax.Array, codewords: jax.Array, count: int
) -> tuple[jax.Array, jax.Array]:
  """Returns the codewords nearest to each point, the nearest first.

  The scan holds T x 1,024 distances at a time, made of differences, which lose
  no precision.  No gradient flows.

  Args:
    points: floating `[T, D]`.  A point with NaN gets codewords of any distance.
    codewords: floating `[N, D]`.  One with NaN is infinitely far.
    count: K, in [1, N].

  Returns:
    Indices int32 `[T, K]`, each in [0, N), the lowest of equally near ones
    first; and squared distances float32 `[T, K]`.  A codeword infinitely far
    may stand there more than once.
  """
  codewords = prepare_codewords(codewords)
  num_codewords, dim = codewords.shape
  in_block = min(_BLOCK, num_codewords)
  num_blocks = -(-num_codewords // in_block)
  filler = num_blocks * in_block - num_codewords
  filled = jnp.pad(codewords, ((0, filler), (0, 0)), constant_values=jnp.inf)
  blocks = filled.reshape(num_blocks, in_block, dim)
  starts = in_block * jnp.arange(num_blocks, dtype=jnp.int32)

  def search(points: jax.Array) -> tuple[jax.Array, jax.Array]:
    points, _ = prepare_points(points)

    def step(best, numbered):
      start, block = numbered
      squares = sum_of_squares(
        dim, lambda d: block[None, :, d] - points[:, d, None]
      )
      nearest, distances = best
      # Those of earlier blocks come first: of equal ones the first is kept.
      negative, place = jax.lax.top_k(
        -jnp.concatenate([distances, squares], axis=1), count
      )
      kept = jnp.minimum(place, count - 1)
      kept = jnp.take_along_axis(nearest, kept, axis=1)
      return (
        jnp.where(place < count, kept, start + place - count),
        -negative,
      ), None

    start = (
      jnp.zeros((len(points), count), jnp.int32),
      jnp.full((len(points), count), jnp.inf, jnp.float32),
    )
    return jax.lax.scan(step, start, (starts, blocks))[0]

  return map_chunks(search, points, points_at_once(dim))
