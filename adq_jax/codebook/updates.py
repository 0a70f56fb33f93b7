"""How the codewords of a codebook learn from the points of a step.

Shapes: N codewords, D their width.  `shard_axis` names the mapped axis over
whose devices the codebook is cut (see `adq_jax.codebook.shards`): a device then
has N / n of its rows, and the same comes out as for the whole.
"""

import functools

import jax
import jax.numpy as jnp

from adq_jax import collectives
from adq_jax.codebook.state import Codebook
from adq_jax.codebook.state import init_codebook

_SMOOTHING = 1e-5  # points added to every codeword's count


def init_smoothed_codebook(
  key: jax.Array, codebook_size: int, embedding_dim: int
) -> Codebook:
  """Returns the state that `smoothed_ema_update` starts from.

  Codewords and sums are drawn apart, and no point is counted.  The arguments
  are those of `init_codebook`.
  """
  codebook = init_codebook(key, codebook_size, embedding_dim)
  sums = jax.random.normal(
    jax.random.fold_in(key, 1), codebook.embedding.shape, jnp.float32
  )
  return codebook.replace(
    cluster_size=jnp.zeros_like(codebook.cluster_size), embedding_sum=sums
  )


def ema_update(
  codebook: Codebook, counts: jax.Array, sums: jax.Array, decay: float
) -> Codebook:
  """Moves the codewords towards the mean of the points that chose them.

  With g the decay: `cluster_size <- g cluster_size + (1-g) counts`,
  `embedding_sum <- g embedding_sum + (1-g) sums`, and their quotient becomes
  the embedding where counts > 0; elsewhere it keeps its bits.  (Section 2.1
  writes the factors of g the other way round.)

  Args:
    codebook: the state before.
    counts: points that chose each codeword, over all devices, `[N]`.
    sums: the sums of those points, over all devices, `[N, D]`.
    decay: g, in [0, 1).
  """
  cluster_size = _average(codebook.cluster_size, counts, decay)
  embedding_sum = _average(codebook.embedding_sum, sums, decay)
  is_chosen = counts > 0
  # Where nobody chose, cluster_size may have decayed to zero.
  size = jnp.where(is_chosen, cluster_size, 1.0)
  embedding = jnp.where(
    is_chosen[:, None], embedding_sum / size[:, None], codebook.embedding
  )
  return codebook.replace(
    embedding=embedding,
    cluster_size=cluster_size,
    embedding_sum=embedding_sum,
  )


def smoothed_ema_update(
  codebook: Codebook,
  counts: jax.Array,
  sums: jax.Array,
  decay: float,
  shard_axis: str | None = None,
) -> Codebook:
  """Moves all codewords to means with Laplace-smoothed counts.

  As in the code of the paper's authors, and much of PyTorch: with n the sum of
  the averaged counts, (count + e) / (n + N e) n is stored as the count, and
  every codeword is the averaged sum over it.  From `init_smoothed_codebook`,
  the first update throws codewords that nobody chose out to about 1e5.  As
  long as no point was ever counted, the state stays as it is.

  The arguments are those of `ema_update`, and what the codebook is cut over.
  """
  size = _average(codebook.cluster_size, counts, decay)
  total = collectives.total(size, shard_axis)
  codebook_size = len(size) * collectives.num_shards(shard_axis)
  size = (size + _SMOOTHING) / (total + codebook_size * _SMOOTHING) * total
  # Before the first point nothing could be divided by.
  is_counted = total > 0
  embedding_sum = _average(codebook.embedding_sum, sums, decay)
  moved = codebook.replace(
    embedding=embedding_sum / jnp.where(is_counted, size, 1.0)[:, None],
    cluster_size=size,
    embedding_sum=embedding_sum,
  )
  return jax.tree.map(functools.partial(jnp.where, is_counted), moved, codebook)


def _average(old: jax.Array, new: jax.Array, decay: float) -> jax.Array:
  """Returns g old + (1-g) new, elementwise."""
  # With two products, which of them is rounded before they are added is a
  # compiler's choice, and may differ between arrays of different sizes.
  return new + decay * (old - new)
