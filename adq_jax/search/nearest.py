"""Exact search for the nearest codeword.

Shapes: T points, N codewords, D their width.
"""

from collections.abc import Callable
import functools
from typing import Any

import jax
import jax.numpy as jnp

from adq_jax import checks
from adq_jax.chunks import map_chunks
from adq_jax.search import bisection
from adq_jax.search import cells
from adq_jax.search import pallas
from adq_jax.search import scan

CodebookIndex = cells.Cells | bisection.SortedCodewords
"""What `index_codebook` returns."""

_SORTED_FROM = 4096  # codewords of width 1; below, the scan is as fast
_CELLS_FROM = {2: 2**15, 3: 2**16, 4: 2**18}  # codewords, by their width
_CELLS_POINTS = 256  # fewer points are faster scanned
_SCREENED_FROM = 4  # the width from which products leave little doubt
_CHUNK_NUMBERS = 2**28  # that a search may hold at once, beside its arguments
_SCAN_NUMBERS = 2048  # that a scan holds for a point, beside a few of its width


def nearest_codes(
  z: jax.Array, codebook: jax.Array | CodebookIndex, *, method: str = "auto"
) -> jax.Array:
  """Returns the index of the codeword nearest to every point (eq. 2).

  Exact: the Euclidean distance to the chosen codeword exceeds the smallest by
  at most 8 float32 epsilons of (|z| + |c|), however close the codewords lie
  and however far from the origin; the lowest index wins a tie.  Norms may
  reach 1e18: the squares of larger ones leave float32.  No gradient flows.
  Beside its arguments and result it takes at most 1 GiB, for any number of
  points: many of them are searched a chunk at a time.

  Args:
    z: points, floating `[..., D]`.  A point with NaN gets index 0.
    codebook: codewords, floating `[N, D]`, or what `index_codebook` made of
      them.  One with NaN is infinitely far.
    method: one of

      - `"blocked"`, a scan by differences, which holds T x 128 distances;
      - `"screened"`, the same by products, about twice as fast; where their
        rounding leaves a doubt, `"blocked"` decides;
      - `"cells"`, for D from 2 to 8, which sorts the codewords into cells and
        skips those out of reach; what it cannot finish soon, it scans;
      - `"sorted"`, for D = 1, in O((T + N) log T);
      - `"pallas"`, for D up to 512, a fused kernel for TPU and GPU (elsewhere
        interpreted, which is slow);
      - `"dense"`, the tests' reference, which holds T x N distances;
      - `"auto"`: on a CPU `"sorted"` for D = 1 from 4,096 codewords on,
        `"cells"` for D = 2, 3 and 4 from 2^15, 2^16 and 2^18 codewords on,
        `"screened"` for D of 4 and more, else `"blocked"`, each where
        `python -m benchmarks.search` found it fastest.  On a TPU `"pallas"`,
        which by the compilers' schedules for v5e takes 1.3 to 2.5 times fewer
        cycles than the scan, and as many for D = 1; elsewhere, and beyond its
        widths, `"blocked"`: on a GPU nobody has timed the kernel yet.

      An index is searched in its own way, whatever the method.

  Returns:
    int32 `[...]`, each in [0, N).

  Raises:
    ValueError: if a shape or dtype does not fit, or the method is unknown or
      not for that D.
  """
  checks.check_floating("z", z, min_rank=1)
  checks.check_choice("method", method, tuple(_METHODS))
  if isinstance(codebook, CodebookIndex):
    dim, search = codebook.width, _INDEX_SEARCHES[type(codebook)]
  else:
    codebook = _checked_codewords(codebook)
    dim, search = codebook.shape[1], _METHODS[method]
    widths = _WIDTHS.get(method)
    if widths is not None and dim not in widths:
      raise ValueError(
        f"method is {method!r}, which is for codewords of width"
        f" {_span(widths)}; these have width {dim}"
      )
  checks.check_width("z", z, dim, "the codebook's width")
  if not z.size:
    return jnp.zeros(z.shape[:-1], jnp.int32)
  return search(z.reshape(-1, dim), codebook).reshape(z.shape[:-1])


def index_codebook(codebook: jax.Array) -> CodebookIndex:
  """Prepares narrow codewords that are searched more than once.

  `nearest_codes(z, index_codebook(codebook))` finds what
  `nearest_codes(z, codebook)` finds, which would sort again each time.  It
  pays on a CPU, where `"auto"` is `"sorted"` or `"cells"`; fewer codewords are
  faster searched without.

  Args:
    codebook: codewords, floating `[N, D]`, D from 1 to 8.

  Returns:
    A pytree, to pass to `nearest_codes`, also through `jax.jit`.

  Raises:
    ValueError: if the shape or dtype does not fit.
  """
  codewords = _checked_codewords(codebook)
  dim = codewords.shape[1]
  if dim > cells.MAX_WIDTH:
    raise ValueError(
      f"codebook has shape {codewords.shape}; an index is for codewords of"
      f" width 1 to {cells.MAX_WIDTH}: give wider ones to"
      " nearest_codes as they are"
    )
  build = bisection.build if dim == 1 else cells.build
  return build(codewords)


def _checked_codewords(codebook: jax.Array) -> jax.Array:
  checks.check_floating("codebook", codebook, rank=2)
  if not codebook.size:
    raise ValueError(
      f"codebook has shape {codebook.shape}; it needs at least one codeword"
      " of width 1 or more"
    )
  return prepare_codewords(codebook)


def prepare_points(points: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Returns points `[T, D]` as searches take them, and which have NaN."""
  points = jax.lax.stop_gradient(points).astype(jnp.float32)
  # Neither as it is, nor as the difference of two infinities, may a NaN reach
  # a minimum, which passes it on.
  is_nan = jnp.isnan(points).any(axis=-1)
  largest = jnp.finfo(jnp.float32).max
  return jnp.clip(jnp.nan_to_num(points), -largest, largest), is_nan


def prepare_codewords(codewords: jax.Array) -> jax.Array:
  """Returns codewords of any shape as searches take them."""
  codewords = jax.lax.stop_gradient(codewords).astype(jnp.float32)
  return jnp.where(jnp.isnan(codewords), jnp.inf, codewords)


def points_at_once(dim: int) -> int:
  """Returns how many points of width D a search takes together."""
  return max(_CHUNK_NUMBERS // (_SCAN_NUMBERS + 8 * dim), 1)


_Search = Callable[[jax.Array, Any], jax.Array]


def _in_chunks(
  search: _Search, prepare: Callable[[jax.Array], Any] = lambda x: x
) -> _Search:
  """Returns a search for any points `[T, D]`, which may have NaN.

  Args:
    search: takes finite points, and what it searches.
    prepare: makes that of the codewords, once for all chunks.
  """

  def search_chunk(points: jax.Array, prepared: Any) -> jax.Array:
    finite, is_nan = prepare_points(points)
    return jnp.where(is_nan, 0, search(finite, prepared))

  def search_all(points: jax.Array, codebook: Any) -> jax.Array:
    prepared = prepare(codebook)
    return map_chunks(
      lambda chunk: search_chunk(chunk, prepared),
      points,
      points_at_once(points.shape[1]),
    )

  return search_all


def _search_pallas(points: jax.Array, codewords: jax.Array) -> jax.Array:
  def on(platform: str, interpret: bool = False) -> _Search:
    return functools.partial(
      pallas.search, platform=platform, interpret=interpret
    )

  return jax.lax.platform_dependent(
    points,
    codewords,
    tpu=on("tpu"),
    cuda=on("gpu"),
    default=on("gpu", interpret=True),
  )


def _search_cells(points: jax.Array, index: cells.Cells) -> jax.Array:
  return cells.search(points, index)


_ANYWHERE: dict[str, _Search] = {
  "dense": _in_chunks(scan.search_dense),
  "blocked": _in_chunks(scan.search_blocked),
  "screened": _in_chunks(scan.search_screened),
  "cells": _in_chunks(_search_cells, cells.build),
  "pallas": _in_chunks(_search_pallas),
  "sorted": _in_chunks(bisection.search_unsorted),
}


def _search_auto(points: jax.Array, codewords: jax.Array) -> jax.Array:
  dim = codewords.shape[1]
  has_kernel = dim <= pallas.MAX_WIDTH
  return jax.lax.platform_dependent(
    points,
    codewords,
    cpu=_ANYWHERE[best_on_cpu(len(points), *codewords.shape)],
    tpu=_ANYWHERE["pallas" if has_kernel else "blocked"],
    default=_ANYWHERE["blocked"],
  )


def best_on_cpu(num_points: int, num_codewords: int, dim: int) -> str:
  """Returns the method that `"auto"` is on a CPU, for T, N and D."""
  if dim == 1 and num_codewords >= _SORTED_FROM:
    return "sorted"
  is_many = num_codewords >= _CELLS_FROM.get(dim, num_codewords + 1)
  if is_many and num_points >= _CELLS_POINTS:
    return "cells"
  return "screened" if dim >= _SCREENED_FROM else "blocked"


def _span(widths: range) -> str:
  if len(widths) == 1:
    return str(widths[0])
  return f"{widths[0]} to {widths[-1]}"


# Jitted, so that each is traced once for a shape, however often it is used.
_METHODS: dict[str, _Search] = {
  name: jax.jit(search)
  for name, search in {**_ANYWHERE, "auto": _search_auto}.items()
}
_WIDTHS = {
  "cells": range(2, cells.MAX_WIDTH + 1),
  "pallas": range(1, pallas.MAX_WIDTH + 1),
  "sorted": range(1, 2),
}
_INDEX_SEARCHES = {
  cells.Cells: jax.jit(_in_chunks(_search_cells)),
  bisection.SortedCodewords: jax.jit(_in_chunks(bisection.search)),
}
