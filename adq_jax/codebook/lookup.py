"""Which codeword a point is assigned to, and which a code stands for.

Shapes: T points, N codewords, D their width.  `shard_axis` names the mapped
axis over whose devices the codebook is cut (see `adq_jax.codebook.shards`): a
device then has N / n of its rows, and the same comes out as for the whole.
"""

from collections.abc import Iterable

import jax
from jax import export
import jax.numpy as jnp

from adq_jax import masks
from adq_jax.chunks import for_each_chunk
from adq_jax.chunks import most_in_chunk
from adq_jax.codebook.statistics import to_indices
from adq_jax.search import sharded
from adq_jax.search.nearest import nearest_codes

_CHUNK = 256  # points that are searched together, at least


def nearest(
  points: jax.Array,
  is_real: jax.Array,
  codewords: jax.Array,
  shard_axis: str | None,
  penalty: jax.Array | None = None,
  price: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
  """Returns the codes of points, int32 `[T]`, and their codewords `[T, D]`.

  Args:
    points: float32 `[T, D]`.
    is_real: which of them count, bool `[T]`; the code of others is 0.
    codewords: float32 `[N, D]`.
    shard_axis: the mapped axis over which they are cut.
    penalty: of these codewords, floating `[N]` or `[K, N]`; see
      `adq_jax.nearest_codes`.
    price: of the points, floating `[T]` or `[T, K]`.
  """
  if shard_axis is not None:
    points = masks.with_nan(points, is_real)
    return sharded.nearest_codes(points, codewords, shard_axis, penalty, price)
  codes = nearest_codes(points, codewords, penalty=penalty, price=price)
  codes = jnp.where(is_real, codes, 0)
  return codes, jnp.take(codewords, codes, axis=0)


def nearest_of_chosen(
  book: jax.Array, spaces: Iterable[tuple[jax.Array, jax.Array]]
) -> jax.Array:
  """Returns each point's code in the codebook that it uses, int32 `[T]`.

  A codebook searches for the points that use it alone.

  Args:
    book: which codebook that is, int32 `[T]`.
    spaces: of each codebook its points, float32 `[T, D]`, NaN where they do not
      count, and its codewords, float32 `[N, D]`.
  """
  # In chunks: how many points use a codebook is not known beforehand.
  length = book.shape[0]
  quarter = 0 if export.is_symbolic_dim(length) else length // 4
  size = max(quarter, most_in_chunk(length, _CHUNK))
  index = jnp.zeros(book.shape, jnp.int32)
  for i, (points, codewords) in enumerate(spaces):

    def search(index, which, points=points, codewords=codewords):
      some = points.at[which].get(mode="clip")
      codes = nearest_codes(some, codewords)
      return index.at[which].set(codes, mode="drop")

    index = for_each_chunk(book == i, index, search, size)
  return index


def take(
  codes: jax.Array,
  codewords: jax.Array,
  codebook_size: int,
  shard_axis: str | None,
) -> jax.Array:
  """Returns the codewords of codes, float32 `[T, D]`; NaN out of range.

  Args:
    codes: any integers `[...]`, T in all.
    codewords: float32 `[N, D]`.
    codebook_size: N.
    shard_axis: the mapped axis over which the codewords are cut.
  """
  indices = to_indices(codes, codebook_size).reshape(-1)
  if shard_axis is not None:
    return sharded.take(indices, codewords, shard_axis)
  in_range = indices < codebook_size
  # Only good indices look up, so that checks of JAX's stay silent.
  taken = codewords[jnp.where(in_range, indices, 0)]
  return jnp.where(in_range[:, None], taken, jnp.nan)
