"""Pure functions on the state of one codebook.

Shapes: T points, N codewords, D their width.  A mask `[T]` is 1 for a real
point and 0 for padding; `axis_name` names the mapped axis (of `jax.pmap`, say)
over whose devices a batch is spread, `shard_axis` the one over which the
codebook is cut (see `adq_jax.sharding`): a device then has N / n of its rows,
and the same comes out as for the whole.
"""

import dataclasses
import functools
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np

from adq_jax import checks
from adq_jax import masks
from adq_jax import sharding
from adq_jax.parts import map_parts
from adq_jax.parts import sum_parts

_PART_NUMBERS = 2**24  # of the points whose statistics are made in one go
_PLACEMENT_NOISE = 0.01  # in standard deviations of the encodings
_SMOOTHING = 1e-5  # points added to every codeword's count


@flax.struct.dataclass
class Codebook:
  """The state of one codebook.

  Attributes:
    embedding: the codewords, float32 `[N, D]`.
    cluster_size: moving average of the points per step that chose a codeword,
      float32 `[N]`.
    embedding_sum: moving average of the sum of those points, float32 `[N, D]`.
    initialized: whether the codewords have their first values, bool `[]`.
  """

  embedding: jax.Array
  cluster_size: jax.Array
  embedding_sum: jax.Array
  initialized: jax.Array

  def to_collection(self) -> dict[str, jax.Array]:
    """Returns the state as `variables["codebook"]` of a quantizer has it."""
    return {
      field.name: getattr(self, field.name)
      for field in dataclasses.fields(self)
    }


@flax.struct.dataclass
class Statistics:
  """What one codebook learns from: sums over the points of a step.

  Those of several batches are added up with `jax.tree.map(jnp.add, a, b)`.

  Attributes:
    counts: how many points chose each codeword, float32 `[N]`.
    sums: the sums of those points, float32 `[N, D]`; None where the codewords
      are parameters.
  """

  counts: jax.Array
  sums: jax.Array | None


def codebook_structures(capacity: int) -> tuple[tuple[int, int], ...]:
  """Returns the pool of structures (N, D) of a capacity (section 3.1).

  Every power of two D from 128 down to 1 with N = capacity / D and N > D; for
  65536 the paper's eight, (512, 128) to (65536, 1).

  Args:
    capacity: N x D of every structure; a multiple of every D in the pool.

  Raises:
    ValueError: if no structure fits, or one would need a fraction of a
      codeword.
  """
  if capacity < 2:
    raise ValueError(f"capacity is {capacity}; it must be at least 2")
  dims = [d for d in (128, 64, 32, 16, 8, 4, 2, 1) if capacity > d * d]
  if capacity % dims[0]:
    raise ValueError(
      f"capacity is {capacity}; it must be a multiple of {dims[0]}, the"
      " largest embedding_dim whose square is below it"
    )
  return tuple((capacity // d, d) for d in dims)


def init_codebook(
  key: jax.Array,
  codebook_size: int,
  embedding_dim: int,
  *,
  initialized: bool = True,
) -> Codebook:
  """Returns standard normal codewords, each counted once.

  Args:
    key: a PRNG key.
    codebook_size: N.
    embedding_dim: D.
    initialized: False where `initialize_from_data` is to replace them.
  """
  embedding = jax.random.normal(
    key, (codebook_size, embedding_dim), jnp.float32
  )
  return codebook_from(embedding).replace(initialized=jnp.array(initialized))


def codebook_from(
  embedding: jax.Array, cluster_size: jax.Array | float = 1.0
) -> Codebook:
  """Returns the state of a codebook that has these codewords.

  For codewords that come from elsewhere, such as k-means or another model.
  Setting `embedding` alone would not do: the next update makes the codewords
  of `embedding_sum` again.

      codebook = codebook_from(embedding).to_collection()
      variables = {**variables, "codebook": codebook}

  Args:
    embedding: the codewords, floating `[N, D]`, finite.
    cluster_size: how many points each codeword stands for, positive: a number,
      or `[N]`.  The larger, the less a step moves them.

  Raises:
    ValueError: if a shape, dtype or value does not fit.
  """
  checks.check_floating("embedding", embedding, rank=2)
  embedding = jnp.asarray(embedding, jnp.float32)
  shape = embedding.shape[:1]
  if jnp.ndim(cluster_size):
    why = "a count for each codeword, or one number"
    checks.check_shape("cluster_size", cluster_size, shape, why)
  size = jnp.broadcast_to(jnp.asarray(cluster_size, jnp.float32), shape)
  _check_values("embedding", embedding, jnp.isfinite, "finite")
  _check_values("cluster_size", size, lambda x: x > 0, "positive")
  return Codebook(
    embedding=embedding,
    cluster_size=size,
    # An array of its own, whatever the factor: one that is in a state twice
    # cannot be donated.
    embedding_sum=jnp.array(size[:, None] * embedding, copy=True),
    initialized=jnp.array(True),
  )


def _check_values(name: str, x: jax.Array, is_good: Any, wanted: str) -> None:
  if isinstance(x, jax.core.Tracer):
    return
  bad = np.asarray(x)[~np.asarray(is_good(x))]
  if bad.size:
    raise ValueError(f"{name} has the value {bad.flat[0]}; it must be {wanted}")


def freeze_codewords(before: Any, after: Any, is_frozen: jax.Array) -> Any:
  """Returns the state after a step, with some codewords as they were before.

  They keep their bits and their averages, whatever the update and the placing
  of dead codewords did.  All others learn as if these were not frozen.

      result, updated = quantizer.apply(variables, z, train=True, ...)
      codebook = freeze_codewords(
        variables["codebook"], updated["codebook"], is_frozen
      )

  Args:
    before: the state of one codebook, a `Codebook` or a collection.
    after: the same after the step.
    is_frozen: bool `[N]`; of a sharded codebook, this device's part.

  Raises:
    ValueError: if `is_frozen` is not bool or not one for each codeword.
  """
  size = len(jax.tree.leaves(before)[0])
  checks.check_mask("is_frozen", is_frozen, (size,), "one for each codeword")
  is_frozen = masks.as_bool(is_frozen, (size,))

  def choose(old: jax.Array, new: jax.Array) -> jax.Array:
    if not jnp.ndim(old):
      return new
    return jnp.where(is_frozen.reshape(-1, *(1,) * (old.ndim - 1)), old, new)

  return jax.tree.map(choose, before, after)


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


def code_counts(
  codes: jax.Array,
  codebook_size: int,
  *,
  mask: jax.Array | None = None,
  axis_name: str | None = None,
) -> jax.Array:
  """Returns how many points chose each codeword, float32 `[N]`.

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

  counts = sum_parts(
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
  """Returns the sum of the points that chose each codeword, float32 `[N, D]`.

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
  sums = sum_parts(sums_of, (points, codes, is_real), size)
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
  """The same, in an order that depends on the codes alone."""
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
  total = sharding.total(size, shard_axis)
  codebook_size = len(size) * sharding.num_shards(shard_axis)
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


def initialize_from_data(
  key: jax.Array,
  codebook: Codebook,
  points: jax.Array,
  *,
  mask: jax.Array | None = None,
  axis_name: str | None = None,
  shard_axis: str | None = None,
) -> Codebook:
  """Makes codewords of a codebook that has none yet from the global batch.

  See `revive_dead_codes` for how they are placed and for the arguments.  A
  batch without a real point leaves the codebook waiting for the next one.
  """
  is_first = ~codebook.initialized
  placed, is_placed = _place(
    key,
    codebook,
    jnp.broadcast_to(is_first, codebook.cluster_size.shape),
    points,
    mask,
    axis_name,
    shard_axis,
  )
  return placed.replace(initialized=codebook.initialized | is_placed)


def revive_dead_codes(
  key: jax.Array,
  codebook: Codebook,
  points: jax.Array,
  threshold: float,
  *,
  mask: jax.Array | None = None,
  axis_name: str | None = None,
  shard_axis: str | None = None,
) -> Codebook:
  """Places codewords that are hardly chosen upon encodings of the batch.

  A codeword whose cluster_size is below `threshold` times the mean becomes an
  encoding drawn from the whole global batch, no encoding twice before all are
  used once, plus noise of 1% of the encodings' standard deviation: equal
  codewords would never part.  Its cluster_size becomes the mean and its
  embedding_sum matches, so that the next update does not undo it.

  Args:
    key: a PRNG key, the same on every device.
    codebook: the state before.
    points: this device's encodings, float32 `[T, D]`.
    threshold: a share of the mean cluster_size.
    mask: 1 for a real point, `[T]`.
    axis_name: the mapped axis over which the batch is spread.
    shard_axis: the one over which the codebook is cut.
  """
  size = codebook.cluster_size
  is_dead = size < threshold * sharding.mean(size, shard_axis)
  revived, _ = _place(
    key, codebook, is_dead, points, mask, axis_name, shard_axis
  )
  return revived


def _place(
  key: jax.Array,
  codebook: Codebook,
  where: jax.Array,
  points: jax.Array,
  mask: jax.Array | None,
  axis_name: str | None,
  shard_axis: str | None,
) -> tuple[Codebook, jax.Array]:
  """Places the codewords `where` is true; also returns whether it could."""
  is_real = masks.as_bool(mask, points.shape[:1])
  size = points_at_once(points.shape[1])
  is_real &= map_parts(masks.finite_rows, points, size)

  def place(codebook: Codebook) -> tuple[Codebook, jax.Array]:
    batch, is_drawn = sharding.gather((points, is_real), axis_name)
    if not len(batch):
      return codebook, jnp.array(False)
    rows = sharding.rows_of_shard(len(where), shard_axis)
    drawn = _draw(key, batch, is_drawn, rows)
    can_place = is_drawn.any()
    chosen = where & can_place
    size = sharding.mean(codebook.cluster_size, shard_axis)
    return (
      codebook.replace(
        embedding=jnp.where(chosen[:, None], drawn, codebook.embedding),
        cluster_size=jnp.where(chosen, size, codebook.cluster_size),
        embedding_sum=jnp.where(
          chosen[:, None], size * drawn, codebook.embedding_sum
        ),
      ),
      can_place,
    )

  # Most steps place nothing, and then need not gather.  All devices must agree
  # on it; they do where they hold the same codebook.
  is_any = where.any()
  if shard_axis is not None:
    is_any = jax.lax.pmax(is_any.astype(jnp.int32), shard_axis) > 0
  return jax.lax.cond(
    is_any,
    place,
    lambda codebook: (codebook, jnp.array(False)),
    codebook,
  )


def _draw(
  key: jax.Array, points: jax.Array, is_real: jax.Array, rows: jax.Array
) -> jax.Array:
  """Draws real points in random order, over and over, and adds the noise.

  Args:
    key: a PRNG key.
    points: `[T, D]`.
    is_real: bool `[T]`.
    rows: the codewords to draw for, int32 `[...]`.  What each gets does not
      depend on the others.
  """
  order_key, noise_key = jax.random.split(key)
  num_real = jnp.maximum(is_real.sum(dtype=jnp.int32), 1)
  rank = jax.random.uniform(order_key, is_real.shape, jnp.float32)
  order = jnp.argsort(jnp.where(is_real, rank, jnp.inf))
  drawn = points[order[rows % num_real]]
  std = _standard_deviation(points, is_real, num_real.astype(jnp.float32))
  noise = jax.vmap(
    lambda row: jax.random.normal(
      jax.random.fold_in(noise_key, row), drawn.shape[1:], jnp.float32
    )
  )(rows)
  scale = jax.lax.reduce_precision(_PLACEMENT_NOISE * std, 8, 7)
  return drawn + scale[None] * jax.lax.reduce_precision(noise, 8, 15)


def _standard_deviation(
  points: jax.Array, is_real: jax.Array, num_real: jax.Array
) -> jax.Array:
  """That of the real points `[T, D]`, `[D]`, rounded alike everywhere."""

  def mean_of(function) -> jax.Array:
    total = sum_parts(
      lambda part: sharding.add_up(masks.keep(function(part[0]), part[1])),
      (points, is_real),
      points_at_once(points.shape[1]),
    )
    return total / num_real

  mean = mean_of(lambda points: points)

  def squared_deviations(points: jax.Array) -> jax.Array:
    # Products of 12 and 12 bits, or 8 and 16, are exact.  Whether a compiler
    # rounds before it adds makes no difference then, and so no number of
    # devices.
    deviations = jax.lax.reduce_precision(points - mean[None], 8, 11)
    return jnp.square(deviations)

  return jnp.sqrt(mean_of(squared_deviations))
