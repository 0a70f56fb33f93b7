"""Exact search for the nearest codeword as one fused kernel.

Shapes: T points, N codewords, D their width.

The kernel is written for TPUs (Mosaic) and GPUs (Triton).  Codewords stream
past a tile of points, whose smallest distances and indices stay in fast memory.
Nothing of size T x N is ever in the main memory.

A distance is float32 from its first square to the last comparison.  In a plain
argmin the minimum itself is not used, and compilers for TPUs demote it to
bfloat16.
"""

from collections.abc import Callable
import functools
from typing import Any

import jax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jax.experimental.pallas import triton as pltriton
import jax.numpy as jnp
import numpy as np

from adq_jax import checks
from adq_jax import collectives

MAX_WIDTH = 512  # tiles of wider points would not fit a TPU's vector memory

_CHUNK_SIZE = 16  # squares added in one go; keeps the rounding of wide sums low

# The size of a TPU's vector registers:
_LANES = 128
_SUBLANES = 8
_TPU_POINTS = 1024  # of one tile: minima and indices fill a fourth of registers
_TPU_WORDS = 2**18  # numbers in one tile of the codebook
_TPU_UNROLLED_WIDTH = 64  # numbers that a sublane takes in one step

_GPU_POINTS = 32  # of one tile; with 64 codewords, 16 distances a thread
_GPU_CODEWORDS = 64


def search(
  points: jax.Array,
  codewords: jax.Array,
  *,
  platform: str,
  interpret: Any = False,
) -> jax.Array:
  """Returns the index of the codeword nearest to every point.

  It compares squared differences.  The lowest index wins a tie, and a point
  gets index 0 where every distance is infinite.

  Args:
    points: float32 `[T, D]`, T >= 1, D <= `MAX_WIDTH`, finite.
    codewords: float32 `[N, D]`, N >= 1, without NaN; a codeword with an
      infinity is infinitely far.
    platform: `"tpu"` or `"gpu"`.
    interpret: passed to `pallas_call`.  True, or `pltpu.InterpretParams` for a
      TPU's kernel, runs the kernel on a CPU.

  Returns:
    int32 `[T]`, each in [0, N).

  Raises:
    ValueError: if the platform is unknown or D is too large.
  """
  checks.check_choice("platform", platform, tuple(_PLATFORMS))
  if points.shape[1] > MAX_WIDTH:
    raise ValueError(
      f"points have shape {points.shape}; the kernel needs a width of at most"
      f" {MAX_WIDTH}"
    )
  return _PLATFORMS[platform](points, codewords, interpret)


def _search_tpu(
  points: jax.Array, codewords: jax.Array, interpret: Any
) -> jax.Array:
  """Searches with points on the lanes and codewords on the sublanes.

  Codewords are cut into eight runs of neighbours, one for each sublane.  A row
  holds the next codeword of every run.  All work is then elementwise, with no
  reduction before the last row, and within a run the earlier codeword keeps a
  tie.
  """
  (num_points, dim), num_codewords = points.shape, len(codewords)
  tile = min(_TPU_POINTS, _round_up(num_points, _LANES))
  points_t = _pad(points, _round_up(num_points, tile)).T
  # Unrolled rows start at a multiple of their number, so that all of them are
  # in the same register.
  unrolled = max(_TPU_UNROLLED_WIDTH // pl.next_power_of_2(dim), 4)
  rows = _round_up(pl.cdiv(num_codewords, _SUBLANES), unrolled)
  block = max(_TPU_WORDS // (_SUBLANES * dim) // _LANES, 1) * _LANES
  block = min(block, _round_up(rows, _LANES))
  codewords_t = _pad(codewords, _SUBLANES * rows, jnp.inf).T
  runs = codewords_t.reshape(dim, _SUBLANES, rows)
  # The kernel stops at the last row, so it never computes with this padding.
  runs = jnp.pad(runs, ((0, 0), (0, 0), (0, _round_up(rows, block) - rows)))
  indices = pl.pallas_call(
    functools.partial(_tpu_kernel, num_rows=rows, unrolled=unrolled),
    grid=(points_t.shape[1] // tile, runs.shape[2] // block),
    in_specs=[
      pl.BlockSpec((dim, tile), lambda i, j: (0, i)),
      pl.BlockSpec((dim, _SUBLANES, block), lambda i, j: (0, 0, j)),
    ],
    out_specs=pl.BlockSpec((1, tile), lambda i, j: (0, i)),
    out_shape=_indices((1, points_t.shape[1]), points_t, runs),
    scratch_shapes=[
      pltpu.VMEM((_SUBLANES, tile), jnp.float32),
      pltpu.VMEM((_SUBLANES, tile), jnp.int32),
    ],
    compiler_params=pltpu.CompilerParams(
      dimension_semantics=("parallel", "arbitrary")
    ),
    interpret=interpret,
    name="nearest_codes",
  )(points_t, runs)
  return indices[0, :num_points]


def _indices(
  shape: tuple[int, ...], points_t: jax.Array, codewords_t: jax.Array
) -> jax.ShapeDtypeStruct:
  """Returns the type of the indices int32 that a kernel finds."""
  either = collectives.vary_as(points_t, codewords_t)
  kind = jax.typeof(either).manual_axis_type
  return jax.ShapeDtypeStruct(shape, jnp.int32, manual_axis_type=kind)


def _tpu_kernel(
  points, runs, indices, smallest, row_index, *, num_rows, unrolled
):
  dim, _, block = runs.shape
  first_row = pl.program_id(1) * block

  @pl.when(first_row == 0)
  def _():
    smallest[...] = jnp.full(smallest.shape, jnp.inf, jnp.float32)
    row_index[...] = jnp.zeros(row_index.shape, jnp.int32)

  def step(i, best):
    start = i * unrolled
    lane = jax.lax.rem(start, np.int32(_LANES))
    shift = jax.lax.rem(_LANES - lane, np.int32(_LANES))
    register = pl.ds(pl.multiple_of(start - lane, _LANES), _LANES)

    def add_squares(first, size, totals):
      chunks = [None] * unrolled
      for d in range(size):
        # A register's lanes can be indexed by constants only.
        row = pltpu.roll(runs[first + d, :, register], shift, axis=1)
        values = points[pl.ds(first + d, 1), :]
        for k in range(unrolled):
          square = jnp.square(row[:, k : k + 1] - values)
          chunks[k] = square if d == 0 else chunks[k] + square
      if totals is None:
        return chunks
      return [a + b for a, b in zip(totals, chunks, strict=True)]

    totals = _in_chunks(dim, add_squares)
    best_square, best_row = best
    for k, total in enumerate(totals):
      is_better = total < best_square
      best_square = jnp.where(is_better, total, best_square)
      best_row = jnp.where(is_better, first_row + start + k, best_row)
    return best_square, best_row

  num_rows_here = jnp.minimum(block, num_rows - first_row)
  num_steps = jax.lax.div(num_rows_here, np.int32(unrolled))
  smallest[...], row_index[...] = jax.lax.fori_loop(
    np.int32(0), num_steps, step, (smallest[...], row_index[...])
  )

  @pl.when(pl.program_id(1) == pl.num_programs(1) - 1)
  def _():
    squares = smallest[...]
    run = jax.lax.broadcasted_iota(jnp.int32, squares.shape, 0)
    codes = run * num_rows + row_index[...]
    is_smallest = squares == squares.min(axis=0, keepdims=True)
    codes = jnp.where(is_smallest, codes, _SUBLANES * num_rows)
    indices[...] = codes.min(axis=0, keepdims=True)


def _search_gpu(
  points: jax.Array, codewords: jax.Array, interpret: Any
) -> jax.Array:
  """Searches with one program for every tile of points."""
  num_points, dim = points.shape
  points_t = _pad(points, _round_up(num_points, _GPU_POINTS)).T
  codewords_t = _pad(
    codewords, _round_up(len(codewords), _GPU_CODEWORDS), jnp.inf
  ).T
  indices = pl.pallas_call(
    _gpu_kernel,
    grid=(points_t.shape[1] // _GPU_POINTS,),
    in_specs=[
      pl.BlockSpec((dim, _GPU_POINTS), lambda i: (0, i)),
      pl.BlockSpec(codewords_t.shape, lambda i: (0, 0)),
    ],
    out_specs=pl.BlockSpec((_GPU_POINTS,), lambda i: (i,)),
    out_shape=_indices(points_t.shape[1:], points_t, codewords_t),
    compiler_params=pltriton.CompilerParams(num_warps=4, num_stages=2),
    interpret=interpret,
    name="nearest_codes",
  )(points_t, codewords_t)
  return indices[:num_points]


def _gpu_kernel(points, codewords, indices):
  dim, num_codewords = codewords.shape
  shape = (_GPU_POINTS, _GPU_CODEWORDS)

  def step(i, best):
    block = pl.ds(i * _GPU_CODEWORDS, _GPU_CODEWORDS)

    def add_squares(first, size, total):
      chunk = None
      for d in range(size):
        columns = points[first + d, :][:, None]
        rows = codewords[first + d, block][None, :]
        square = jnp.square(columns - rows)
        chunk = square if chunk is None else chunk + square
      return chunk if total is None else total + chunk

    total = _in_chunks(dim, add_squares)
    smallest, step_index = best
    is_better = total < smallest  # the earlier codeword keeps a tie
    smallest = jnp.where(is_better, total, smallest)
    return smallest, jnp.where(is_better, i, step_index)

  start = jnp.full(shape, jnp.inf, jnp.float32), jnp.zeros(shape, jnp.int32)
  smallest, step_index = jax.lax.fori_loop(
    np.int32(0), np.int32(num_codewords // _GPU_CODEWORDS), step, start
  )
  codes = jax.lax.broadcasted_iota(jnp.int32, shape, 1)
  codes += step_index * _GPU_CODEWORDS
  is_smallest = smallest == smallest.min(axis=1, keepdims=True)
  indices[...] = jnp.where(is_smallest, codes, num_codewords).min(axis=1)


def _in_chunks(dim: int, add: Callable[[Any, int, Any], Any]) -> Any:
  """Adds up dimensions 0 to dim - 1, a chunk at a time.

  Args:
    dim: D.
    add: takes the first dimension of a chunk, the number of its dimensions, and
      the total of the chunks before it (None for the first one); returns the
      next total.
  """
  # The last chunk may not be full; it is added first.
  num_full = (dim - 1) // _CHUNK_SIZE
  first = num_full * _CHUNK_SIZE
  total = add(first, dim - first, None)
  if num_full:
    total = jax.lax.fori_loop(
      np.int32(0),
      np.int32(num_full),
      lambda c, total: add(c * _CHUNK_SIZE, _CHUNK_SIZE, total),
      total,
    )
  return total


_PLATFORMS: dict[str, Callable[[jax.Array, jax.Array, Any], jax.Array]] = {
  "tpu": _search_tpu,
  "gpu": _search_gpu,
}


def _pad(rows: jax.Array, size: int, value: float = 0.0) -> jax.Array:
  padding = (0, size - len(rows)), (0, 0)
  return jnp.pad(rows, padding, constant_values=value)


def _round_up(size: int, multiple: int) -> int:
  return pl.cdiv(size, multiple) * multiple
