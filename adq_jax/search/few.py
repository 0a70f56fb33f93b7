"""Exact search for the few nearest codewords.

Shapes: T points, N codewords, D their width, K codewords and R prices for each
point.
"""

import functools

import jax
import jax.numpy as jnp

from adq_jax import collectives
from adq_jax.chunks import map_chunks
from adq_jax.search.distances import sum_of_products
from adq_jax.search.distances import sum_of_squares
from adq_jax.search.nearest import points_at_once
from adq_jax.search.nearest import prepare_codewords
from adq_jax.search.nearest import prepare_points
from adq_jax.search.penalty import check_penalty
from adq_jax.search.penalty import prepare_penalty

_BLOCK = 1024  # codewords that points are compared with in one step


@functools.partial(jax.jit, static_argnums=2)  # traced once for a shape
def nearest_few(
  points: jax.Array,
  codewords: jax.Array,
  count: int,
  penalty: jax.Array | None = None,
  price: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
  """Returns the codewords nearest to each point, the nearest first.

  The scan holds T x 1,024 distances at a time, made of differences, which lose
  no precision.  No gradient flows.

  Args:
    points: floating `[T, D]`.  A point with NaN gets codewords of any distance.
    codewords: floating `[N, D]`.  One with NaN is infinitely far.
    count: K, in [1, N].
    penalty: what is added to the squared distances, floating `[N]` or `[R, N]`,
      as in `adq_jax.nearest_codes`.  An infinite one makes its codeword
      infinitely far.
    price: floating `[T]` beside penalties `[N]`, and `[T, R]` beside `[R, N]`.

  Returns:
    Indices int32 `[T, K]`, each in [0, N), the lowest of equally near ones
    first; and squared distances float32 `[T, K]`, with the penalties that were
    added.  A codeword infinitely far may stand there more than once.

  Raises:
    ValueError: if the penalty and the price do not fit.
  """
  check_penalty(penalty, price, codewords, points.shape[:1])
  codewords = prepare_codewords(codewords)
  prices = penalties = None
  if penalty is not None:
    codewords, added = prepare_penalty(
      penalty, price, codewords, points.shape[0]
    )
    penalties, prices = added.per_codeword, added.per_point
  num_codewords, dim = codewords.shape
  in_block = min(_BLOCK, num_codewords)
  num_blocks = -(-num_codewords // in_block)
  filler = num_blocks * in_block - num_codewords
  filled = jnp.pad(codewords, ((0, filler), (0, 0)), constant_values=jnp.inf)
  blocks = filled.reshape(num_blocks, in_block, dim)
  starts = in_block * jnp.arange(num_blocks, dtype=jnp.int32)
  if penalty is not None:
    penalties = jnp.pad(penalties, ((0, filler), (0, 0)))
    penalties = penalties.reshape(num_blocks, in_block, -1)

  def search(chunk) -> tuple[jax.Array, jax.Array]:
    points, prices = chunk
    points, _ = prepare_points(points)

    def step(best, numbered):
      start, block, penalties = numbered
      squares = sum_of_squares(
        dim, lambda d: block[None, :, d] - points[:, d, None]
      )
      if penalties is not None:
        squares += sum_of_products(
          prices.shape[1], lambda k: penalties[None, :, k] * prices[:, k, None]
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
    start = collectives.vary_as(start, points, codewords)
    return jax.lax.scan(step, start, (starts, blocks, penalties))[0]

  width = dim if prices is None else dim + prices.shape[1]
  return map_chunks(search, (points, prices), points_at_once(width))
