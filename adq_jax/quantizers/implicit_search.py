"""Stages whose codewords a network makes: what codes decode to, and the search.

Shapes: T points, S stages, K codewords of width D in each, B hypotheses for
each point, A candidates of each hypothesis.
"""

from collections.abc import Mapping

import flax
import jax
import jax.numpy as jnp

from adq_jax import collectives
from adq_jax.chunks import map_chunks
from adq_jax.codebook import lookup
from adq_jax.codebook.statistics import points_at_once
from adq_jax.quantizers.implicit_networks import AbstractImplicitNetwork
from adq_jax.search.few import nearest_few


@flax.struct.dataclass
class ImplicitStages:
  """The stages of a `QINCo`.

  Attributes:
    codewords: as they are stored, float32 `[S, K, D]`.
    parameters: of the networks of all stages but the first, `[S - 1, ...]`.
    candidates: the codewords that candidates are found by, of all stages but
      the first, float32 `[S - 1, K, D]`; None where all are tried.
    network: makes codewords of all stages but the first.
  """

  codewords: jax.Array
  parameters: Mapping[str, jax.Array]
  candidates: jax.Array | None
  network: AbstractImplicitNetwork = flax.struct.field(pytree_node=False)

  def first(self, num_stages: int) -> "ImplicitStages":
    """Returns the first stages alone, 1 or more."""
    later = jax.tree.map(
      lambda x: x[: num_stages - 1], (self.parameters, self.candidates)
    )
    return self.replace(
      codewords=self.codewords[:num_stages],
      parameters=later[0],
      candidates=later[1],
    )


def decode(stages: ImplicitStages, codes: jax.Array) -> jax.Array:
  """Returns what is decoded after each stage, float32 `[S, T, D]`.

  A gradient goes to all stages before, and needs T x S x D numbers, and one
  stage's layers at a time, which are computed once more.

  Args:
    stages: S of them.
    codes: any integers `[T, S]`; one out of range makes NaN from there on.
  """
  size = stages.codewords.shape[1]
  network = stages.network
  first = lookup.take(codes[:, 0], stages.codewords[0], size, None)

  @jax.checkpoint
  def add(sums: jax.Array, stage):
    codes, codewords, parameters = stage
    entered = network.enter(parameters, codewords)
    codewords, entered = (
      lookup.take(codes, x, size, None) for x in (codewords, entered)
    )
    return sums + network.finish(parameters, codewords, entered, sums)

  def step(sums: jax.Array, stage):
    sums = add(sums, stage)
    return sums, sums

  later = (codes[:, 1:].T, stages.codewords[1:], stages.parameters)
  sums = collectives.vary_as(first, stages)
  _, sums = jax.lax.scan(step, sums, later)
  return jnp.concatenate([first[None], sums])


def search(
  stages: ImplicitStages,
  points: jax.Array,
  *,
  beam_size: int,
  num_candidates: int,
) -> jax.Array:
  """Returns the codes of points, int32 `[T, S]`.

  In each stage a hypothesis is joined with its A candidates, and of all of
  these the B are kept that are nearest to the point.  With a beam of 1 this is
  the greedy search.  No gradient flows.  Points are searched in chunks, so
  that T x B x A numbers of a layer are at most 2^24 at once (or one point's,
  where these are more).

  Args:
    stages: S of them.
    points: finite float32 `[T, D]`.
    beam_size: B, in [1, K].
    num_candidates: A, in [1, K]: the network is tried on so many codewords,
      those whose `candidates` are nearest to what is left of a point.  All are
      where there are none.
  """
  stages, points = jax.lax.stop_gradient((stages, points))
  num_stages, size, dim = stages.codewords.shape
  tried = size if stages.candidates is None else num_candidates

  def search_chunk(points: jax.Array) -> jax.Array:
    nearest, _ = nearest_few(points, stages.codewords[0], beam_size)
    sums = stages.codewords[0][nearest]
    codes = jnp.zeros((*nearest.shape, num_stages), jnp.int32)
    beam = codes.at[..., 0].set(nearest), sums
    later = (
      jnp.arange(1, num_stages, dtype=jnp.int32),
      stages.codewords[1:],
      stages.parameters,
      stages.candidates,
    )

    def extend(beam, stage):
      codes, sums = beam
      s, codewords, parameters, candidates = stage
      left = (points[:, None] - sums).reshape(-1, dim)
      entered = stages.network.enter(parameters, codewords)
      which = jnp.arange(size, dtype=jnp.int32)[None]
      if candidates is not None:
        which, _ = nearest_few(left, candidates, tried)
      added = stages.network.finish(
        parameters, codewords[which], entered[which], sums.reshape(-1, 1, dim)
      )
      squares = jnp.square(left[:, None] - added).sum(axis=-1)
      _, kept = jax.lax.top_k(
        -squares.reshape(-1, beam_size * tried), beam_size
      )
      which = jnp.broadcast_to(which, squares.shape)
      which = which.reshape(-1, beam_size * tried)
      parents = (kept // tried)[..., None]
      codes = jnp.take_along_axis(codes, parents, axis=1)
      codes = codes.at[..., s].set(jnp.take_along_axis(which, kept, axis=1))
      added = added.reshape(-1, beam_size * tried, dim)
      sums = jnp.take_along_axis(sums, parents, axis=1) + jnp.take_along_axis(
        added, kept[..., None], axis=1
      )
      return (codes, sums), None

    beam = collectives.vary_as(beam, points, stages)
    (codes, _), _ = jax.lax.scan(extend, beam, later)
    return codes[:, 0]

  widest = stages.network.widest(dim)
  at_once = points_at_once(beam_size * tried * widest)
  return map_chunks(search_chunk, points, at_once)
