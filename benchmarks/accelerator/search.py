"""The searches of a device against float64 on the host.

Shapes: T points, N codewords, D their width.
"""

from collections.abc import Callable
from collections.abc import Iterator
import functools
from typing import Any

import jax
import numpy as np

from adq_jax import codebook_structures
from adq_jax import index_codebook
from adq_jax import nearest_codes
from benchmarks.accelerator.rows import Row
from tests.support import exactness
from tests.support.search import KINDS
from tests.support.search import make_data
from tests.support.search import make_kind

_SHAPES = {1: (257, 4097), 2: (257, 1025), 8: (257, 517), 128: (130, 261)}
_SMALL_SHAPES = {1: (65, 200), 2: (65, 200)}  # [T, N] by D
_OFFSETS = (0, 1000)  # of all points and codewords
_EVERYWHERE = ("auto", "blocked", "screened", "dense", "pallas")
_PENALIZED = ("blocked", "screened", "dense")
_POINTS = 4096  # of the kernel beside the scan


def rows(device: jax.Device, *, is_small: bool) -> Iterator[Row]:
  """Yields a row for each method and width.

  Args:
    device: searches.
    is_small: whether to compare few points with few codewords.
  """
  shapes = _SMALL_SHAPES if is_small else _SHAPES
  for dim, (num_points, num_codewords) in shapes.items():
    shape = (num_points, num_codewords, dim)
    for method in _methods(dim):
      yield Row(
        f"search `{method}` [{num_codewords},{dim}]",
        functools.partial(check_search, device, method, shape),
      )
    for method in _PENALIZED:
      yield Row(
        f"search `{method}` [{num_codewords},{dim}] with penalties",
        functools.partial(check_penalties, device, method, shape),
      )


def kernel_rows(device: jax.Device, *, is_small: bool) -> Iterator[Row]:
  """Yields a row for each structure of the paper's pool.

  Args:
    device: searches.
    is_small: whether to compare few points with few codewords.
  """
  num_points = 16 if is_small else _POINTS
  for structure in pool(is_small):
    yield Row(
      f"kernel and scan [{structure[0]},{structure[1]}]",
      functools.partial(check_kernel, device, num_points, structure),
    )


def pool(is_small: bool) -> tuple[tuple[int, int], ...]:
  """Returns the structures (N, D) of the paper's pool, or of a smaller one."""
  return codebook_structures(2**4 if is_small else 2**16)


def _methods(dim: int) -> tuple[str, ...]:
  """Returns the methods that `nearest_codes` has for a width, and an index."""
  narrow = ("index",) if dim <= 8 else ()
  sorting = ("sorted",) if dim == 1 else ("cells",) if dim <= 8 else ()
  return (*_EVERYWHERE, *sorting, *narrow)


def search_by(method: str) -> Callable[..., jax.Array]:
  """Returns a compiled search by a method, or "index"."""
  if method == "index":
    return jax.jit(lambda z, c: nearest_codes(z, index_codebook(c)))
  return jax.jit(functools.partial(nearest_codes, method=method))


def check_search(
  device: jax.Device, method: str, shape: tuple[int, int, int]
) -> str:
  """Checks a method with points that may trouble it.

  Among them are points with ties, far from the origin, and with NaN.

  Args:
    device: searches.
    method: of `nearest_codes`, or "index".
    shape: T, N and D.

  Returns:
    The largest excess over the smallest distance.

  Raises:
    AssertionError: if the contract of `nearest_codes` is broken.
  """
  search = search_by(method)
  worst = 0.0
  for values in KINDS:
    for offset in _OFFSETS:
      z, codebook = (
        x + np.float32(offset) for x in make_kind(values, *shape, seed=0)
      )
      codes = _on(device, search, z, codebook)
      try:
        excess = exactness.check_codes(
          z, codebook, codes, is_exact=values == "integers"
        )
      except AssertionError as error:
        raise AssertionError(f"{values}, offset {offset}: {error}") from error
      worst = max(worst, excess)
  return f"{worst:.2f} of {exactness.ALLOWED} epsilons"


def check_penalties(
  device: jax.Device, method: str, shape: tuple[int, int, int]
) -> str:
  """Checks a method with two penalties of each codeword, and two prices.

  Args:
    device: searches.
    method: of `nearest_codes`.
    shape: T, N and D.

  Returns:
    How many sums are equal in float64 to another one of the same point.

  Raises:
    AssertionError: if the contract of `nearest_codes` is broken.
  """
  num_points, num_codewords, _ = shape
  rng = np.random.default_rng(1)
  penalty = rng.exponential(size=(2, num_codewords)).astype(np.float32)
  price = rng.exponential(size=(num_points, 2)).astype(np.float32)

  @jax.jit
  def search(z, codebook, penalty, price):
    return nearest_codes(
      z, codebook, method=method, penalty=penalty, price=price
    )

  for offset in _OFFSETS:
    z, codebook = (x + np.float32(offset) for x in make_data(*shape))
    codes = _on(device, search, z, codebook, penalty, price)
    exactness.check_sums(z, codebook, penalty, codes, price)
  z, codebook = make_kind("integers", *shape, seed=0)
  penalty, price = np.floor(2 * penalty), np.floor(2 * price)
  sums = exactness.sums_of(z, codebook, penalty, price)  # exact
  codes = _on(device, search, z, codebook, penalty, price)
  np.testing.assert_array_equal(codes, sums.argmin(axis=1))
  tied = (sums == sums.min(axis=1, keepdims=True)).sum(axis=1) > 1
  return f"{tied.sum()} of {num_points} points have ties"


def check_kernel(
  device: jax.Device, num_points: int, structure: tuple[int, int]
) -> str:
  """Checks that the fused kernel finds codewords as near as the scan does.

  Args:
    device: searches.
    num_points: T.
    structure: N and D.

  Returns:
    How many codes differ.

  Raises:
    AssertionError: if one of the two is farther, beyond rounding; or another
      one where distances are exact.
  """
  kernel, scan = search_by("pallas"), search_by("blocked")
  differing = 0
  for offset in _OFFSETS:
    z, codebook = (
      x + np.float32(offset) for x in make_data(num_points, *structure)
    )
    ours, theirs = (
      _on(device, search, z, codebook) for search in (kernel, scan)
    )
    differing += (ours != theirs).sum()
    for name, one, other in (
      ("kernel", ours, theirs),
      ("scan", theirs, ours),
    ):
      count = exactness.farther(z, codebook, one, other).sum()
      assert not count, f"the {name} is farther for {count}, offset {offset}"
  z, codebook = make_kind("integers", num_points, *structure, seed=0)
  np.testing.assert_array_equal(
    _on(device, kernel, z, codebook), _on(device, scan, z, codebook)
  )
  return f"{differing} of {2 * num_points} codes differ, and are as near"


def _on(
  device: jax.Device, search: Callable[..., Any], *arguments: np.ndarray
) -> np.ndarray:
  return np.asarray(search(*jax.device_put(arguments, device)))
