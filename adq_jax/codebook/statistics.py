"""What a codebook learns from: which points are assigned to which codeword.

Shapes: T points, N codewords, D their width.  `axis_name` names the mapped axis
over whose devices a batch is spread.
"""

import dataclasses
import functools
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np

from adq_jax import checks
from adq_jax import collectives
from adq_jax import masks
from adq_jax import meshes
from adq_jax.checks import AnyArray
from adq_jax.chunks import sum_chunks
from adq_jax.codebook.similarity import AbstractSimilarity
from adq_jax.codebook.similarity import Euclidean
from adq_jax.serialization import serializable

_PART_NUMBERS = 2**24  # of the points whose statistics are made in one go


@dataclasses.dataclass(frozen=True)
class Batch:
  """The points of a step, and where they are.

  Attributes:
    points: this device's, float32 `[T, D]`, finite.
    is_real: which of them count, bool `[T]`.
    axis_name: the mapped axis over which the batch is spread; None where no
      device looks at another's points.
    shard_axis: the mapped axis over which the codebook is cut, if any.
    similarity: by what they are compared with codewords; they lie where that
      compares them.
  """

  points: jax.Array
  is_real: jax.Array
  axis_name: str | None = None
  shard_axis: str | None = None
  similarity: AbstractSimilarity = Euclidean()


@serializable
@flax.struct.dataclass
class Statistics:
  """What one codebook learns from: sums over the points of a step.

  Those of several batches are added up with `jax.tree.map(jnp.add, a, b)`.

  Attributes:
    counts: how many points are assigned to each codeword, float32 `[N]`.
    sums: the sums of those points, float32 `[N, D]`; None where the codewords
      are parameters.
  """

  counts: jax.Array
  sums: jax.Array | None


def check_statistics(statistics: Any, size: int, dim: int | None) -> None:
  """Raises a ValueError unless statistics are of a codebook.

  Args:
    statistics: what should be `Statistics`.
    size: N, or N / n of a shard.
    dim: D; None where it needs no `sums`.
  """
  if not isinstance(statistics, Statistics):
    raise ValueError(
      f"statistics is a {type(statistics).__name__}; it must be the Statistics"
      " of a Quantized of training"
    )
  why = "one for each codeword"
  checks.check_shape("statistics.counts", statistics.counts, (size,), why)
  if dim is not None:
    sums = () if statistics.sums is None else statistics.sums
    checks.check_shape("statistics.sums", sums, (size, dim), why)


def statistics_of(
  batch: Batch, codes: jax.Array, size: int, *, has_sums: bool
) -> Statistics:
  """Returns what a codebook, or this device's shard of it, learns from a batch.

  Args:
    batch: of the step.
    codes: of its points, int32 `[T]`.
    size: N, or N / n of a shard.
    has_sums: whether there are `sums`.
  """
  points, is_real = jax.lax.stop_gradient(batch.points), batch.is_real
  axis_name = batch.axis_name
  if batch.shard_axis is not None:
    # Every device counts the points of all devices, for its own codewords.  The
    # search has gathered the same points.
    points, codes = collectives.gather(
      (masks.with_nan(points, is_real), codes), batch.shard_axis
    )
    is_real, axis_name = masks.finite_rows(points), None
    codes = collectives.codes_in_shard(codes, size, batch.shard_axis)
  where = {"mask": is_real, "axis_name": axis_name}
  counts = code_counts(codes, size, **where)
  sums = code_sums(points, codes, size, **where) if has_sums else None
  return Statistics(counts, sums)


def to_indices(codes: jax.Array, codebook_size: int) -> jax.Array:
  """Returns codes of any integer dtype as int32; N where out of range.

  A narrow dtype may not have N, and a wide one more than int32 has: so the
  range is checked in the dtype that the codes come in.

  Args:
    codes: integers `[...]`.
    codebook_size: N.
  """
  xp = np if isinstance(codes, np.ndarray) else jnp
  if xp is jnp and jnp.iinfo(codes.dtype).bits < 32:
    codes = codes.astype(jnp.int32)
  last = min(codebook_size - 1, int(jnp.iinfo(codes.dtype).max))
  in_range = (codes >= 0) & (codes <= last)
  indices = xp.where(in_range, codes, 0).astype(np.int32)
  return jnp.where(in_range, indices, jnp.int32(codebook_size))


@meshes.function_inside_auto(lambda *args, **kwargs: meshes.WHOLE)
def code_counts(
  codes: AnyArray,
  codebook_size: int,
  *,
  mask: AnyArray | None = None,
  axis_name: str | None = None,
) -> jax.Array:
  """Returns how many points are assigned to each codeword, float32 `[N]`.

  Args:
    codes: integers `[...]`, in [0, N); others count nowhere.
    codebook_size: N.
    mask: 1 for a real point, 0 for padding, `[...]`.
    axis_name: the mapped axis to sum over.

  Raises:
    ValueError: if the codes are no integers, the mask has another shape or
      other values, or there is no such axis.
  """
  checks.check_integer("codes", codes)
  checks.check_axis("axis_name", axis_name)
  if mask is not None:
    checks.check_mask("mask", mask, codes.shape, "one for each code")
  is_real = masks.as_bool(mask, codes.shape)

  def count(part) -> jax.Array:
    codes, is_real = part
    # As integers: a float32 that counts by ones stops at 2^24.
    return jax.ops.segment_sum(
      is_real.astype(jnp.int32), to_indices(codes, codebook_size), codebook_size
    )

  counts = sum_chunks(
    count, (codes.reshape(-1), is_real.reshape(-1)), points_at_once(1)
  )
  if axis_name is not None:
    counts = jax.lax.psum(counts, axis_name)
  return counts.astype(jnp.float32)


def code_sums(
  points: jax.Array,
  codes: jax.Array,
  codebook_size: int,
  *,
  mask: jax.Array | None = None,
  axis_name: str | None = None,
) -> jax.Array:
  """Returns the sum of the points assigned to each codeword, float32 `[N, D]`.

  Args:
    points: float32 `[T, D]`.
    codes: int32 `[T]`, in [0, N]; N counts nowhere.
    codebook_size: N.
    mask: 1 for a real point, `[T]`; points that are not finite count nowhere
      either.
    axis_name: the mapped axis to sum over.
  """
  is_real = masks.as_bool(mask, codes.shape)

  def sums_of(part) -> jax.Array:
    points, codes, is_real = part
    is_real &= masks.finite_rows(points)
    return _sums(masks.keep(points, is_real), codes, codebook_size)

  size = points_at_once(points.shape[1])
  sums = sum_chunks(sums_of, (points, codes, is_real), size)
  return sums if axis_name is None else jax.lax.psum(sums, axis_name)


def points_at_once(dim: int) -> int:
  """Returns how many points of a width have their statistics made together."""
  return max(_PART_NUMBERS // max(dim, 1), 1)


@functools.partial(jax.jit, static_argnums=2)  # traced once for a shape
def _sums(points: jax.Array, codes: jax.Array, codebook_size: int) -> jax.Array:
  # On a GPU a scatter adds in whatever order it comes to.
  return jax.lax.platform_dependent(
    points,
    codes,
    cuda=functools.partial(_sorted_sums, codebook_size=codebook_size),
    default=functools.partial(_scattered_sums, codebook_size=codebook_size),
  )


def _scattered_sums(
  points: jax.Array, codes: jax.Array, codebook_size: int
) -> jax.Array:
  return jax.ops.segment_sum(points, codes, codebook_size)


def _sorted_sums(
  points: jax.Array, codes: jax.Array, codebook_size: int
) -> jax.Array:
  """Sums the points of each code in an order that the codes alone decide."""
  order = jnp.argsort(codes)
  codes, points = codes[order], points[order]
  begins = jnp.diff(codes, prepend=jnp.int32(-1)) > 0

  def add(left, right):
    sums, _ = left
    values, begins = right
    total = jnp.where(begins[..., None], values, sums + values)
    return total, left[1] | begins

  sums, _ = jax.lax.associative_scan(add, (points, begins))
  ends = jnp.diff(codes, append=jnp.int32(codebook_size)) > 0
  at = jnp.where(ends, codes, codebook_size)
  result = jnp.zeros((codebook_size, points.shape[1]), points.dtype)
  return result.at[at].set(sums, mode="drop")
