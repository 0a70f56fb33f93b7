"""A search for codes of several stages that looks further than one of them.

Shapes: T points, D their width, H hypotheses for each point, s stages so far.
"""

import flax
import jax
import jax.numpy as jnp

from adq_jax.codebook import lookup
from adq_jax.search.few import nearest_few


@flax.struct.dataclass
class Beam:
  """The best sums of codewords that were found so far, the best first.

  Attributes:
    codes: of each hypothesis, int32 `[T, H, s]`.
    sums: of their codewords, float32 `[T, H, D]`.
    costs: what the codes cost, float32 `[T, H]`, in the unit of squared
      distances.
  """

  codes: jax.Array
  sums: jax.Array
  costs: jax.Array


def start(points: jax.Array) -> Beam:
  """Returns one hypothesis, of no codeword, for points `[T, D]`."""
  return Beam(
    codes=jnp.zeros((points.shape[0], 1, 0), jnp.int32),
    sums=jnp.zeros_like(points)[:, None],
    costs=jnp.zeros_like(points[:, :1]),
  )


def extend(
  beam: Beam,
  points: jax.Array,
  is_real: jax.Array,
  codewords: jax.Array,
  size: int,
  penalty: jax.Array | None = None,
  price: jax.Array | None = None,
) -> Beam:
  """Returns hypotheses of one stage more.

  Every hypothesis is joined with the codewords that are nearest to what is left
  of its point, and of all these the nearest to the point are kept.  With a size
  of 1 this is the greedy search.  It holds T x size x size numbers, and never
  T x N.  What codewords cost adds to distances.

  Args:
    beam: of the stages before.
    points: finite float32 `[T, D]`.
    is_real: which of them count, bool `[T]`; the codes of others are of no
      meaning.
    codewords: of the next stage, float32 `[N, D]`.
    size: the most hypotheses to keep, 1 or more.
    penalty: as of `nearest_codes`, `[K, N]`; None: codewords cost nothing.
    price: as of `nearest_codes`, `[T, K]`.
  """
  left = points[:, None] - beam.sums
  if size == 1:
    codes, taken = lookup.nearest(
      left[:, 0], is_real, codewords, None, penalty, price
    )
    return Beam(
      codes=jnp.concatenate([beam.codes, codes[:, None, None]], axis=2),
      sums=beam.sums + taken[:, None],
      costs=beam.costs + _charges(codes[:, None], penalty, price),
    )
  num_points, hypotheses, dim = left.shape
  few = min(size, len(codewords))
  of_left = None if price is None else jnp.repeat(price, hypotheses, axis=0)
  candidates, squares = (
    x.reshape(num_points, hypotheses * few)
    for x in nearest_few(
      left.reshape(-1, dim), codewords, few, penalty, of_left
    )
  )
  squares += jnp.repeat(beam.costs, few, axis=1)
  _, kept = jax.lax.top_k(-squares, min(size, hypotheses * few))
  codes = jnp.take_along_axis(candidates, kept, axis=1)
  parents = kept // few
  costs = jnp.take_along_axis(beam.costs, parents, axis=1)
  parents = parents[..., None]
  return Beam(
    codes=jnp.concatenate(
      [
        jnp.take_along_axis(beam.codes, parents, axis=1),
        codes[..., None],
      ],
      axis=2,
    ),
    sums=jnp.take_along_axis(beam.sums, parents, axis=1)
    + jnp.take(codewords, codes, axis=0),
    costs=costs + _charges(codes, penalty, price),
  )


def _charges(
  codes: jax.Array, penalty: jax.Array | None, price: jax.Array | None
) -> jax.Array:
  """Returns what codes int32 `[T, H]` cost, float32 `[T, H]`."""
  if penalty is None:
    return jnp.zeros(codes.shape, jnp.float32)
  return (price[:, None] * penalty.T[codes]).sum(axis=-1)
