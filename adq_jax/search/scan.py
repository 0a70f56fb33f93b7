"""Exact search that compares every point with every codeword.

Shapes: T points, N codewords, D their width, L lanes.

A scan looks for the nearest lane of codewords, and then through that lane (see
`adq_jax.search.lanes`).

`search_blocked` computes distances as sums of squared differences, which loses
no precision.  `search_screened` expands them to |c|^2 / 2 - z.c.  This takes
half the work, and a matrix unit can compute the products of wide codewords, but
it cancels digits.  So it bounds its own error, and `search_blocked` decides for
the points that the bound leaves in doubt.

A search may be given a penalty for each codeword.  Then it looks for the
smallest sum of squared distance and penalty, and "distance" stands for that.
"""

import jax
import jax.numpy as jnp

from adq_jax.chunks import for_each_chunk
from adq_jax.search import lanes
from adq_jax.search.distances import squared_distances

_UNROLLED_WIDTH = 64  # numbers of the codewords of a lane in one step
_PRODUCT_WIDTH = 32  # the D from which a matrix product pays
_PRODUCT_CODEWORDS = 4  # codewords of a lane in one product
_DOUBTFUL = 32  # points that are searched once more together
_BLOCK = 1024  # codewords that these are compared with in one step


def search_dense(
  points: jax.Array, codewords: jax.Array, penalty: jax.Array | None = None
) -> jax.Array:
  """Compares all `[N, T]` distances at once; the reference of the tests.

  Args:
    points: finite float32 `[T, D]`.
    codewords: float32 `[N, D]`, none of them NaN.
    penalty: float32 `[N]`, 0 or more; None: nothing is added.

  Returns:
    int32 `[T]`.
  """
  squares = squared_distances(points.T, codewords, penalty)
  return jnp.argmin(squares, axis=0).astype(jnp.int32)


@jax.jit  # traced once for a shape, since other searches call it too
def search_blocked(
  points: jax.Array, codewords: jax.Array, penalty: jax.Array | None = None
) -> jax.Array:
  """Scans the codewords, holding T x 128 distances at a time.

  Args:
    points: finite float32 `[T, D]`.
    codewords: float32 `[N, D]`, none of them NaN.
    penalty: float32 `[N]`, 0 or more; None: nothing is added.

  Returns:
    int32 `[T]`.
  """
  in_one_go = _UNROLLED_WIDTH // codewords.shape[1]
  both = lanes.cut_all(codewords, penalty, in_one_go)
  points_t = lanes.transposed(points)

  def distances(block):
    codewords, penalties = block
    if penalties is None:
      for own in codewords:
        yield squared_distances(points_t, own, None)
      return
    for own, penalty in zip(codewords, penalties[..., 0], strict=True):
      yield squared_distances(points_t, own, penalty)

  smallest = lanes.smallest_of(distances, points_t, both)[:, : len(points)]
  nearest = lanes.first_of(smallest == smallest.min(axis=0, keepdims=True))
  return lanes.search_lane(points, both, nearest, len(codewords))


def search_screened(
  points: jax.Array, codewords: jax.Array, penalty: jax.Array | None = None
) -> jax.Array:
  """Searches by matrix products, and decides close cases by differences.

  Matrix products are fast, but they lose precision.  In float32 a score
  |c|^2 / 2 - z.c is off by no more than e (|z|^2 + |c|^2), with
  e = 2 (D + 5) 2^-24.  Subtracting e |c|^2 from each score beforehand makes it
  a lower bound (up to e |z|^2), so a distant codeword cannot raise doubt.  The
  upper bound for the nearest codeword adds 2 e |c|^2 back, where |c| is at most
  |z| plus its distance.  With penalties p the same bounds hold for
  (|c|^2 + p) / 2 and |c|^2 + p in place of |c|^2 / 2 and |c|^2.

  Args:
    points: finite float32 `[T, D]`.
    codewords: float32 `[N, D]`, none of them NaN.
    penalty: float32 `[N]`, 0 or more; None: nothing is added.

  Returns:
    int32 `[T]`.
  """
  num_points, dim = points.shape
  is_usable = jnp.isfinite(jnp.square(codewords).sum(axis=1, keepdims=True))
  usable = jnp.where(is_usable, codewords, 0.0)
  # Products cancel fewer digits around the middle.  The middle is a codeword,
  # since the mean itself may round in one way where it is subtracted from
  # points, and in another where it is subtracted from codewords.
  num_usable = jnp.maximum(is_usable.sum(dtype=jnp.int32), 1)
  mean = usable.sum(axis=0, keepdims=True) / num_usable.astype(jnp.float32)
  centre = usable[jnp.argmin(jnp.square(usable - mean).sum(axis=1))][None]
  centred = jnp.where(is_usable, codewords - centre, 0.0)
  error = 2 * (dim + 5) * 2.0**-24
  half = jnp.square(centred).sum(axis=1, keepdims=True) * (0.5 - error)
  if penalty is not None:
    half += penalty[:, None] * (0.5 - error)
  half = jnp.where(is_usable, half, jnp.inf)
  is_wide = dim >= _PRODUCT_WIDTH
  in_one_go = _PRODUCT_CODEWORDS if is_wide else _UNROLLED_WIDTH // dim
  points_t = lanes.transposed(points - centre)

  def scores(block):
    codewords, half = block
    if is_wide:
      flat = codewords.reshape(-1, dim)
      products = jax.lax.dot(
        flat, points_t, precision=jax.lax.Precision.HIGHEST
      ).reshape(*codewords.shape[:2], -1)
      for i in range(len(codewords)):
        yield half[i] - products[i]
      return
    for i in range(len(codewords)):
      score = half[i]
      for d in range(dim):
        score -= codewords[i][:, d, None] * points_t[d][None]
      yield score

  both = (lanes.cut(centred, in_one_go, fill=0.0), lanes.cut(half, in_one_go))
  smallest = lanes.smallest_of(scores, points_t, both)[:, :num_points]
  best = smallest.min(axis=0)
  norm = jnp.square(points_t[:, :num_points]).sum(axis=0)
  distance = jnp.maximum(2 * best + norm, 0.0)
  norm_of_nearest = 2 * (norm + distance)
  if penalty is not None:
    norm_of_nearest += distance  # of which the penalty is a part
  limit = best + 2 * error * (norm + norm_of_nearest) + 1e-37
  may_have_it = smallest <= limit[None]
  is_sure = (may_have_it.sum(axis=0) == 1) & jnp.isfinite(limit)
  indices = lanes.search_lane(
    points,
    lanes.cut_all(codewords, penalty, in_one_go),
    lanes.first_of(may_have_it),
    len(codewords),
  )
  return search_doubtful(points, codewords, indices, ~is_sure, penalty)


def search_doubtful(
  points: jax.Array,
  codewords: jax.Array,
  indices: jax.Array,
  is_doubtful: jax.Array,
  penalty: jax.Array | None = None,
) -> jax.Array:
  """Returns indices, where the scan decides for doubtful points.

  Args:
    points: finite float32 `[T, D]`.
    codewords: float32 `[N, D]`, none of them NaN.
    indices: int32 `[T]`.
    is_doubtful: the points to search once more, bool `[T]`.
    penalty: float32 `[N]`, 0 or more; None: nothing is added.

  Returns:
    int32 `[T]`.
  """

  def search(indices, which):
    doubtful = points.at[which].get(mode="clip")
    found = _search_few(doubtful, codewords, penalty)
    return indices.at[which].set(found, mode="drop")

  return for_each_chunk(is_doubtful, indices, search, _DOUBTFUL)


def _search_few(
  points: jax.Array, codewords: jax.Array, penalty: jax.Array | None
) -> jax.Array:
  """Compares few points with a block of codewords at a time.

  Doubt is rare.  A program that compiles fast is therefore worth more than one
  that runs as fast as `search_blocked`.

  Args:
    points: finite float32 `[T, D]`.
    codewords: float32 `[N, D]`, none of them NaN.
    penalty: float32 `[N]`, 0 or more; None: nothing is added.

  Returns:
    int32 `[T]`, the lowest index of equally near codewords.
  """
  num_codewords, dim = codewords.shape
  in_block = min(_BLOCK, num_codewords)
  num_blocks = -(-num_codewords // in_block)
  filler = num_blocks * in_block - num_codewords
  filled = jnp.pad(codewords, ((0, filler), (0, 0)), constant_values=jnp.inf)
  points_t = points.T

  def search(numbered):
    start, block, penalty = numbered
    squares = squared_distances(points_t, block, penalty)
    smallest = squares.min(axis=0)
    return smallest, start + lanes.first_of(squares == smallest[None])

  starts = in_block * jnp.arange(num_blocks, dtype=jnp.int32)
  blocks = filled.reshape(num_blocks, in_block, dim)
  penalties = None
  if penalty is not None:
    penalties = jnp.pad(penalty, (0, filler)).reshape(num_blocks, in_block)
  return lanes.nearest_of_parts(
    search, (starts, blocks, penalties), len(points)
  )
