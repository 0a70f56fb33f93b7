"""K-means: codewords become the means of the points that are nearest to them.

Shapes: T points, N codewords, D their width.  Beside the points nothing is held
that grows with T, but for the codes and the chunks of a search.
"""

import dataclasses

import jax
import jax.numpy as jnp

from adq_jax import collectives
from adq_jax import masks
from adq_jax.chunks import map_chunks
from adq_jax.codebook import lookup
from adq_jax.codebook.state import Codebook
from adq_jax.codebook.statistics import Batch
from adq_jax.codebook.statistics import points_at_once
from adq_jax.codebook.statistics import statistics_of


def refine(codebook: Codebook, batch: Batch, num_iterations: int) -> Codebook:
  """Moves first codewords, which lie upon points of a batch, by k-means.

  The `cluster_size` of a codeword is multiplied by its share of the points over
  the mean share, and `embedding_sum` matches.  So the state is as heavy as
  before, and says how often codewords are used; one without points is dead.

  Args:
    codebook: the state before.
    batch: of the step, with a real point.
    num_iterations: 1 or more; see `lloyd`.
  """
  codewords, counts = lloyd(codebook.embedding, batch, num_iterations)
  share = counts / collectives.mean(counts, batch.shard_axis)
  size = codebook.cluster_size * share
  return codebook.replace(
    embedding=codewords,
    cluster_size=size,
    embedding_sum=size[:, None] * codewords,
  )


def lloyd(
  codewords: jax.Array, batch: Batch, num_iterations: int
) -> tuple[jax.Array, jax.Array]:
  """Returns codewords after k-means, and how many points each has.

  An iteration assigns points to their nearest codewords, and then moves
  codewords to the means of their points, as in Lloyd, 1982, "Least Squares
  Quantization in PCM".  Neither lets the mean squared error rise, but for
  rounding.  A codeword without points keeps its bits.  By a similarity, points
  are compared with the means as that places them: by directions this is
  spherical k-means (Dhillon and Modha, 2001).

  Under an axis of the batch the points are those of all its devices, and every
  device makes the same codewords.

  Args:
    codewords: the first ones, float32 `[N, D]`; where they are cut over
      `shard_axis`, this device's.
    batch: which points there are; those that are not finite count nowhere.
    num_iterations: 1 or more.

  Returns:
    The codewords `[N, D]`; and the points of which they are the means, float32
    `[N]`.
  """
  points = batch.points
  chunk = points_at_once(points.shape[1])
  is_finite = map_chunks(masks.finite_rows, points, chunk)
  batch = dataclasses.replace(batch, is_real=batch.is_real & is_finite)

  def move(_, state: tuple[jax.Array, jax.Array]):
    codewords, _ = state
    codes, _ = lookup.nearest(
      points,
      batch.is_real,
      batch.similarity.compared(codewords),
      batch.shard_axis,
    )
    found = statistics_of(batch, codes, len(codewords), has_sums=True)
    has_points = found.counts > 0
    count = jnp.where(has_points, found.counts, 1.0)
    means = found.sums / count[:, None]
    return jnp.where(has_points[:, None], means, codewords), found.counts

  counts = jnp.zeros(len(codewords), jnp.float32)
  state = codewords, collectives.vary_as(counts, codewords)
  return jax.lax.fori_loop(0, num_iterations, move, state)
