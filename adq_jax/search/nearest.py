"""Exact search for the nearest codeword.

Shapes: T points, N codewords, D their width.
"""

from collections.abc import Callable
import functools
from typing import Any

import jax
import jax.numpy as jnp

from adq_jax import checks
from adq_jax import meshes
from adq_jax.checks import AnyArray
from adq_jax.chunks import map_chunks
from adq_jax.chunks import most_in_chunk
from adq_jax.search import bisection
from adq_jax.search import cells
from adq_jax.search import kernel
from adq_jax.search import pallas
from adq_jax.search import scan
from adq_jax.search.penalty import check_penalty
from adq_jax.search.penalty import Penalty
from adq_jax.search.penalty import prepare_penalty

CodebookIndex = cells.Cells | bisection.SortedCodewords
"""The type of the result of `index_codebook`."""

_SORTED_FROM = 4096  # codewords of width 1; for fewer the scan is as fast
_CELLS_FROM = {2: 2**15, 3: 2**16, 4: 2**18}  # codewords, by their width
_CELLS_POINTS = 256  # for fewer points the scan is faster
_SCREENED_FROM = 4  # the width from which products leave little doubt
_CHUNK_NUMBERS = 2**28  # numbers that a search holds beside its arguments
_SCAN_NUMBERS = 2048  # numbers that a scan holds for a point, beside a few D


def _specs_of_codes(z: jax.Array, *unused: Any, **more: Any) -> Any:
  del unused, more
  return meshes.leading(z, jnp.ndim(z) - 1)


@meshes.function_inside_auto(_specs_of_codes)
def nearest_codes(
  z: AnyArray,
  codebook: AnyArray | CodebookIndex,
  *,
  method: str = "auto",
  penalty: AnyArray | None = None,
  price: AnyArray | None = None,
) -> jax.Array:
  """Returns the index of the codeword nearest to every point (eq. 2).

  The search is exact.  The Euclidean distance to the codeword that it returns
  exceeds the smallest by at most 8 float32 epsilons of (|z| + |c|), however
  close the codewords lie and however far from the origin.  The lowest index
  wins a tie.  Norms may reach 1e18: the squares of larger ones overflow
  float32.  No gradient flows.

  Beside its arguments and result the search takes at most 1 GiB.  It searches
  many points a chunk at a time.  Their number may be symbolic, as in a function
  that `jax.export` exports for any batch; then 256 are searched at a time.

  Args:
    z: the points, floating `[..., D]`.  A point with NaN gets index 0.
    codebook: the codewords, floating `[N, D]`, or their index from
      `index_codebook`.  A codeword with NaN is infinitely far.
    method: one of

      - `"blocked"`: a scan by differences, which holds T x 128 distances.
      - `"screened"`: a scan by products, about twice as fast.  Where rounding
        leaves a doubt, `"blocked"` decides.
      - `"cells"`, for D from 2 to 8: sorts the codewords into cells and skips
        cells out of reach.  It scans for points that take long.
      - `"sorted"`, for D = 1: takes O((T + N) log T).
      - `"pallas"`, for D up to 512: a fused kernel for TPU and GPU.  Elsewhere
        it is interpreted, which is slow.
      - `"dense"`: the tests' reference, which holds T x N distances.
      - `"auto"`: the method that `python -m benchmarks.search` found fastest.
        On a CPU this is `"sorted"` for D = 1 from 4,096 codewords on, `"cells"`
        for D = 2, 3 and 4 from 2^15, 2^16 and 2^18 codewords on, `"screened"`
        for other D from 4 on, and else `"blocked"`.  On a TPU it is `"pallas"`
        for the widths that this has.  By the compilers' schedules for v5e the
        kernel takes 1.3 to 2.5 times fewer cycles than the scan, and as many
        for D = 1.  Elsewhere it is `"blocked"`: the kernel has not been timed
        on a GPU yet.  A program that is exported for several platforms has the
        method of each.  One that a compiler spreads over several TPUs has the
        scan, since a compiler cannot cut a kernel; under `jax.shard_map` it is
        the kernel.

      An index has a method of its own, and ignores this argument.
    penalty: what is added to the squared distance of each codeword before the
      smallest is looked for, floating `[N]`, 0 or more; None: nothing.  Bits
      times what one costs make the choice entropy-constrained (Chou, Lookabaugh
      and Gray, 1989).  The sum of the codeword that is returned exceeds the
      smallest by at most 20 + K + D / 16 float32 epsilons of it (K = 1 for
      `[N]`).  The lowest index wins a tie.  An infinite penalty excludes a
      codeword, whatever the price.  `"dense"`, `"blocked"` and `"screened"`
      add it; in place of another method `"screened"` does on a CPU for D from
      4 on, and else `"blocked"`.
    price: the factor of the penalty for each point, floating `[...]`, finite,
      0 or more; None: 1.  With K prices for each point, `[..., K]`, the
      penalty has K rows, `[K, N]`, and the sum over k of price[..., k] times
      penalty[k, n] is added for codeword n.

  Returns:
    The indices, int32 `[...]`, each in [0, N).

  Raises:
    ValueError: if a shape or dtype does not fit, the method is unknown, or it
      does not exist for this D; or if a penalty or price is negative or NaN,
      a price infinite, a penalty beside an index, a price without a penalty,
      or a penalty `[K, N]` without a price.  The values of traced ones are not
      looked at: what is negative is 0 there, a penalty of NaN is infinite, and
      a price that is not finite is the largest float32.

  Example:
    >>> import jax.numpy as jnp
    >>> from adq_jax import nearest_codes
    >>> codebook = jnp.array([[0.0, 0.0], [1.0, 1.0], [4.0, 0.0]])
    >>> nearest_codes(jnp.array([[0.9, 0.8], [3.0, 0.0]]), codebook).tolist()
    [1, 2]
    >>> z = jnp.array([[3.0, 0.0], [3.0, 0.0]])
    >>> bits, price = jnp.array([1.0, 9.0, 9.0]), jnp.array([0.0, 2.0])
    >>> nearest_codes(z, codebook, penalty=bits, price=price).tolist()
    [2, 0]
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
  if penalty is not None and isinstance(codebook, CodebookIndex):
    raise ValueError(
      "penalty is given beside an index; it must be None, or the codebook be"
      " codewords [N, D]"
    )
  check_penalty(penalty, price, codebook, z.shape[:-1])
  if not z.size:
    return jnp.zeros(z.shape[:-1], jnp.int32)
  points = z.reshape(-1, dim)
  if penalty is not None:
    search = _PENALIZED.get(method, _PENALIZED["auto"])
    codebook = prepare_penalty(penalty, price, codebook, points.shape[0])
  return search(points, codebook).reshape(z.shape[:-1])


@meshes.function_inside_auto(lambda codebook: meshes.WHOLE)
def index_codebook(codebook: AnyArray) -> CodebookIndex:
  """Prepares narrow codewords that are searched more than once.

  `nearest_codes(z, codebook)` sorts the codewords or the points on each call.
  With an index it need not, and finds the same codes.  This pays on a CPU
  where `"auto"` is `"sorted"` or `"cells"`.  It does not pay for fewer
  codewords.

  Args:
    codebook: the codewords, floating `[N, D]`, D from 1 to 8.

  Returns:
    A pytree, to pass to `nearest_codes`, also through `jax.jit`.

  Raises:
    ValueError: if the shape or dtype does not fit.

  Example:
    >>> import jax.numpy as jnp
    >>> from adq_jax import index_codebook, nearest_codes
    >>> index = index_codebook(jnp.array([[0.0], [1.0], [4.0]]))
    >>> nearest_codes(jnp.array([[0.9], [3.0]]), index).tolist()
    [1, 2]
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


def _checked_codewords(codebook: AnyArray) -> jax.Array:
  checks.check_floating("codebook", codebook, rank=2)
  if not codebook.size:
    raise ValueError(
      f"codebook has shape {codebook.shape}; it needs at least one codeword"
      " of width 1 or more"
    )
  return prepare_codewords(codebook)


def prepare_points(points: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Returns finite float32 points `[T, D]`, and which had NaN, bool `[T]`."""
  points = jax.lax.stop_gradient(points).astype(jnp.float32)
  # A minimum passes NaN on, so none may reach it: neither a NaN of the points,
  # nor the difference of two infinities.
  is_nan = jnp.isnan(points).any(axis=-1)
  largest = jnp.finfo(jnp.float32).max
  return jnp.clip(jnp.nan_to_num(points), -largest, largest), is_nan


def prepare_codewords(codewords: jax.Array) -> jax.Array:
  """Returns codewords of any shape in float32, with infinity for NaN."""
  codewords = jax.lax.stop_gradient(codewords).astype(jnp.float32)
  return jnp.where(jnp.isnan(codewords), jnp.inf, codewords)


def points_at_once(dim: int) -> int:
  """Returns the number of points of width D in a chunk."""
  return max(_CHUNK_NUMBERS // (_SCAN_NUMBERS + 8 * dim), 1)


_Search = Callable[[jax.Array, Any], jax.Array]


def _in_chunks(
  search: _Search, prepare: Callable[[jax.Array], Any] = lambda x: x
) -> _Search:
  """Returns a search for points `[T, D]`, also many, and also with NaN.

  Args:
    search: takes finite points, and the prepared codewords.
    prepare: prepares the codewords, once for all chunks.
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
  return jax.lax.platform_dependent(
    points,
    codewords,
    tpu=functools.partial(kernel.search, platform="tpu"),
    cuda=functools.partial(kernel.search, platform="gpu"),
    # Interpreted, the GPU's kernel is refused by `jax.shard_map`: in its loop
    # with a known number of steps, arrays lose the axes over which they vary.
    default=functools.partial(pallas.search, platform="tpu", interpret=True),
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
_ON_TPU = _in_chunks(functools.partial(kernel.search, platform="tpu"))


def _search_auto(points: jax.Array, codewords: jax.Array) -> jax.Array:
  dim = codewords.shape[1]
  has_kernel = dim <= pallas.MAX_WIDTH
  return jax.lax.platform_dependent(
    points,
    codewords,
    cpu=_ANYWHERE[best_on_cpu(points.shape[0], *codewords.shape)],
    default=_ON_TPU if has_kernel else _ANYWHERE["blocked"],
  )


def _penalized(search: Callable[..., jax.Array]) -> _Search:
  """Returns a search that takes codewords and penalty as one argument."""

  def search_all(points: jax.Array, pair: tuple[jax.Array, Penalty]):
    codewords, penalty = pair

    def search_chunk(chunk: tuple[jax.Array, jax.Array]) -> jax.Array:
      points, prices = chunk
      own = Penalty(penalty.per_codeword, prices)
      finite, is_nan = prepare_points(points)
      return jnp.where(is_nan, 0, search(finite, codewords, own))

    width = points.shape[1] + penalty.per_point.shape[1]
    chunks = (points, penalty.per_point)
    return map_chunks(search_chunk, chunks, points_at_once(width))

  return search_all


def _search_auto_penalized(
  points: jax.Array, pair: tuple[jax.Array, Penalty]
) -> jax.Array:
  is_wide = points.shape[1] >= _SCREENED_FROM
  return jax.lax.platform_dependent(
    points,
    pair,
    cpu=_penalized(scan.search_screened if is_wide else scan.search_blocked),
    default=_penalized(scan.search_blocked),
  )


def best_on_cpu(num_points: int, num_codewords: int, dim: int) -> str:
  """Returns the method of `"auto"` on a CPU, for T, N and D."""
  if dim == 1 and num_codewords >= _SORTED_FROM:
    return "sorted"
  is_many = num_codewords >= _CELLS_FROM.get(dim, num_codewords + 1)
  at_once = most_in_chunk(num_points, points_at_once(dim))
  if is_many and at_once >= _CELLS_POINTS:
    return "cells"
  return "screened" if dim >= _SCREENED_FROM else "blocked"


def _span(widths: range) -> str:
  if len(widths) == 1:
    return str(widths[0])
  return f"{widths[0]} to {widths[-1]}"


# Under jax.jit each is traced once for a shape, however often it is used.
_METHODS: dict[str, _Search] = {
  name: jax.jit(search)
  for name, search in {**_ANYWHERE, "auto": _search_auto}.items()
}
_PENALIZED: dict[str, _Search] = {
  "dense": jax.jit(_penalized(scan.search_dense)),
  "blocked": jax.jit(_penalized(scan.search_blocked)),
  "screened": jax.jit(_penalized(scan.search_screened)),
  "auto": jax.jit(_search_auto_penalized),
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
