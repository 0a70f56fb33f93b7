"""Exact search that compares every point with every codeword.

Shapes: T points, N codewords, D their width, K prices of each point, L lanes.

A scan looks for the nearest lane of codewords, and then through that lane (see
`adq_jax.search.lanes`).

`search_blocked` computes distances as sums of squared differences, which loses
no precision.  `search_screened` expands them to |c|^2 / 2 - z.c.  This takes
half the work, and a matrix unit can compute the products of wide codewords, but
it cancels digits.  So it bounds its own error, and `search_blocked` decides for
the points that the bound leaves in doubt.

A search may be given a `Penalty`.  Then it looks for the smallest sum of
squared distance and penalties, and "distance" stands for that.
"""

import jax
import jax.numpy as jnp

from adq_jax.chunks import for_each_chunk
from adq_jax.search import lanes
from adq_jax.search.distances import squared_distances
from adq_jax.search.penalty import Penalty

_UNROLLED_WIDTH = 64  # numbers of the codewords of a lane in one step
_PRODUCT_WIDTH = 32  # the D from which a matrix product pays
_PRODUCT_CODEWORDS = 4  # codewords of a lane in one product
_DOUBTFUL = 32  # points that are searched once more together
_BLOCK = 1024  # codewords that these are compared with in one step


def search_dense(
  points: jax.Array, codewords: jax.Array, penalty: Penalty | None = None
) -> jax.Array:
  """Compares all `[N, T]` distances at once; the reference of the tests.

  Args:
    points: finite float32 `[T, D]`.
    codewords: float32 `[N, D]`, none of them NaN.
    penalty: what is added to the squared distances; None: nothing.

  Returns:
    int32 `[T]`.
  """
  penalties, prices = _factors(penalty)
  prices_t = None if prices is None else prices.T
  squares = squared_distances(points.T, codewords, penalties, prices_t)
  return jnp.argmin(squares, axis=0).astype(jnp.int32)


@jax.jit  # traced once for a shape, since other searches call it too
def search_blocked(
  points: jax.Array, codewords: jax.Array, penalty: Penalty | None = None
) -> jax.Array:
  """Scans the codewords, holding T x 128 distances at a time.

  Args:
    points: finite float32 `[T, D]`.
    codewords: float32 `[N, D]`, none of them NaN.
    penalty: what is added to the squared distances; None: nothing.

  Returns:
    int32 `[T]`.
  """
  penalties, prices = _factors(penalty)
  in_one_go = _UNROLLED_WIDTH // _width(codewords, penalties)
  both = lanes.cut_all(codewords, penalties, in_one_go)
  points_t = lanes.transposed(points)
  prices_t = None if prices is None else lanes.transposed(prices)

  def distances(block):
    codewords, penalties = block
    for i, own in enumerate(codewords):
      own_penalties = None if penalties is None else penalties[i]
      yield squared_distances(points_t, own, own_penalties, prices_t)

  smallest = lanes.smallest_of(distances, points_t, both)[:, : len(points)]
  nearest = lanes.first_of(smallest == smallest.min(axis=0, keepdims=True))
  return lanes.search_lane(points, both, nearest, len(codewords), prices)


def search_screened(
  points: jax.Array, codewords: jax.Array, penalty: Penalty | None = None
) -> jax.Array:
  """Searches by matrix products, and decides close cases by differences.

  Matrix products are fast, but they lose precision.  In float32 a score
  |c|^2 / 2 - z.c is off by no more than e (|z|^2 + |c|^2), with
  e = 2 (D + 5) 2^-24.  Subtracting e |c|^2 from each score beforehand makes it
  a lower bound (up to e |z|^2), so a distant codeword cannot raise doubt.  The
  upper bound for the nearest codeword adds 2 e |c|^2 back, where |c| is at most
  |z| plus its distance.

  A sum p of K penalties is added to |c|^2, and e p subtracted.  Both are K more
  coordinates of the product: (e - 1/2) price beside z, and the penalty beside
  c.  A sum of D + K products is off by at most (D + K) 2^-24 times the sum of
  their sizes.  That is at most (|z|^2 + |c|^2 + p) / 2, as no part of p is
  negative.  So a score is off by no more than e (|z|^2 + |c|^2 + p), with
  e = 2 (D + K + 5) 2^-24, and |c|^2 + p takes the place of |c|^2 in both
  bounds.  It is bounded as before: where s is squared distance plus p, |c|^2 is
  at most 2 |z|^2 + 2 (s - p), and |c|^2 + p at most 2 (|z|^2 + s).

  Args:
    points: finite float32 `[T, D]`.
    codewords: float32 `[N, D]`, none of them NaN.
    penalty: what is added to the squared distances; None: nothing.

  Returns:
    int32 `[T]`.
  """
  num_points, dim = points.shape
  penalties, prices = _factors(penalty)
  width = _width(codewords, penalties)
  error = 2 * (width + 5) * 2.0**-24
  centred, is_usable, centre = _centred(codewords)
  half = jnp.square(centred).sum(axis=1, keepdims=True) * (0.5 - error)
  half = jnp.where(is_usable, half, jnp.inf)
  points_t = points - centre
  if penalty is not None:
    centred = jnp.concatenate([centred, penalties], axis=1)
    points_t = jnp.concatenate([points_t, (error - 0.5) * prices], axis=1)
  points_t = lanes.transposed(points_t)
  is_wide = width >= _PRODUCT_WIDTH
  in_one_go = _PRODUCT_CODEWORDS if is_wide else _UNROLLED_WIDTH // width

  def scores(block):
    codewords, half = block
    if is_wide:
      flat = codewords.reshape(-1, width)
      products = jax.lax.dot(
        flat, points_t, precision=jax.lax.Precision.HIGHEST
      ).reshape(*codewords.shape[:2], -1)
      for i in range(len(codewords)):
        yield half[i] - products[i]
      return
    for i in range(len(codewords)):
      score = half[i]
      for d in range(width):
        score -= codewords[i][:, d, None] * points_t[d][None]
      yield score

  both = (lanes.cut(centred, in_one_go, fill=0.0), lanes.cut(half, in_one_go))
  smallest = lanes.smallest_of(scores, points_t, both)[:, :num_points]
  best = smallest.min(axis=0)
  norm = jnp.square(points_t[:dim, :num_points]).sum(axis=0)
  distance = jnp.maximum(2 * best + norm, 0.0)
  norm_of_nearest = 2 * (norm + distance)
  limit = best + 2 * error * (norm + norm_of_nearest) + 1e-37
  may_have_it = smallest <= limit[None]
  is_sure = (may_have_it.sum(axis=0) == 1) & jnp.isfinite(limit)
  indices = lanes.search_lane(
    points,
    lanes.cut_all(codewords, penalties, in_one_go),
    lanes.first_of(may_have_it),
    len(codewords),
    prices,
  )
  return search_doubtful(points, codewords, indices, ~is_sure, penalty)


def _centred(codewords: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Moves the origin to the middle of the codewords.

  Products cancel fewer digits around the middle.  The middle is a codeword,
  since the mean itself may round in one way where it is subtracted from points,
  and in another where it is subtracted from codewords.

  Args:
    codewords: float32 `[N, D]`, none of them NaN.

  Returns:
    The codewords around the middle, `[N, D]`, zeros where they are not usable;
    which are, bool `[N, 1]`, since their squares are finite; and the middle,
    `[1, D]`.
  """
  is_usable = jnp.isfinite(jnp.square(codewords).sum(axis=1, keepdims=True))
  usable = jnp.where(is_usable, codewords, 0.0)
  num_usable = jnp.maximum(is_usable.sum(dtype=jnp.int32), 1)
  mean = usable.sum(axis=0, keepdims=True) / num_usable.astype(jnp.float32)
  centre = usable[jnp.argmin(jnp.square(usable - mean).sum(axis=1))][None]
  return jnp.where(is_usable, codewords - centre, 0.0), is_usable, centre


def _factors(
  penalty: Penalty | None,
) -> tuple[jax.Array | None, jax.Array | None]:
  """Returns penalties `[N, K]` and prices `[T, K]`, if there are any."""
  if penalty is None:
    return None, None
  return penalty.per_codeword, penalty.per_point


def _width(codewords: jax.Array, penalties: jax.Array | None) -> int:
  """Returns D + K, the number of terms of a distance."""
  extra = 0 if penalties is None else penalties.shape[1]
  return codewords.shape[1] + extra


def search_doubtful(
  points: jax.Array,
  codewords: jax.Array,
  indices: jax.Array,
  is_doubtful: jax.Array,
  penalty: Penalty | None = None,
) -> jax.Array:
  """Returns indices, where the scan decides for doubtful points.

  Args:
    points: finite float32 `[T, D]`.
    codewords: float32 `[N, D]`, none of them NaN.
    indices: int32 `[T]`.
    is_doubtful: the points to search once more, bool `[T]`.
    penalty: what is added to the squared distances; None: nothing.

  Returns:
    int32 `[T]`.
  """

  def search(indices, which):
    doubtful = points.at[which].get(mode="clip")
    own = None if penalty is None else penalty.of_points(which)
    found = _search_few(doubtful, codewords, own)
    return indices.at[which].set(found, mode="drop")

  return for_each_chunk(is_doubtful, indices, search, _DOUBTFUL)


def _search_few(
  points: jax.Array, codewords: jax.Array, penalty: Penalty | None
) -> jax.Array:
  """Compares few points with a block of codewords at a time.

  Doubt is rare.  A program that compiles fast is therefore worth more than one
  that runs as fast as `search_blocked`.

  Args:
    points: finite float32 `[T, D]`.
    codewords: float32 `[N, D]`, none of them NaN.
    penalty: what is added to the squared distances; None: nothing.

  Returns:
    int32 `[T]`, the lowest index of equally near codewords.
  """
  num_codewords, dim = codewords.shape
  in_block = min(_BLOCK, num_codewords)
  num_blocks = -(-num_codewords // in_block)
  filler = num_blocks * in_block - num_codewords
  filled = jnp.pad(codewords, ((0, filler), (0, 0)), constant_values=jnp.inf)
  points_t = points.T
  penalties, prices = _factors(penalty)
  prices_t = None if prices is None else prices.T

  def search(numbered):
    start, block, penalties = numbered
    squares = squared_distances(points_t, block, penalties, prices_t)
    smallest = squares.min(axis=0)
    return smallest, start + lanes.first_of(squares == smallest[None])

  starts = in_block * jnp.arange(num_blocks, dtype=jnp.int32)
  blocks = filled.reshape(num_blocks, in_block, dim)
  if penalties is not None:
    penalties = jnp.pad(penalties, ((0, filler), (0, 0)))
    penalties = penalties.reshape(num_blocks, in_block, -1)
  return lanes.nearest_of_parts(
    search, (starts, blocks, penalties), points, codewords
  )
