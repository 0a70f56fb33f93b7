"""Measures the search for codewords, beside FAISS, PyTorch and plain XLA.

python -m benchmarks.search

Points and codewords are normal, in float32, and two threads search.  The first
table has the paper's structures.  The second has codebooks of sixteen times
their size, for which an index pays most.  The peers need
`pip install -r benchmarks/requirements.txt`.

Results are checked before they are timed.  All programs are timed in turn in
one process, and every figure is a median.  FAISS has its index built
beforehand, which for IndexFlatL2 is a copy of the codewords.  A point is
"wrong" where its codeword is farther, in float64, than the contract of
`nearest_codes` allows.
"""

from collections.abc import Callable
from collections.abc import Mapping
import functools
import importlib.util
from typing import Any

from absl import app
from absl import flags
import jax
import jax.numpy as jnp
import numpy as np

from adq_jax import codebook_structures
from adq_jax.search import nearest
from benchmarks import report
from benchmarks import timing
from tests.support.exactness import farther

_POINTS = flags.DEFINE_integer("points", 3136, "Points that are searched for.")
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Turns of each program.")

_CAPACITY = 65_536  # N x D of the paper's structures
_LARGE = ((1_048_576, 1), (524_288, 2), (262_144, 4))
_INDEXED_WIDTH = 4  # wider codewords are faster scanned

# Takes no argument, and returns indices when they are ready.
_Run = Callable[[], np.ndarray]


def main(argv: list[str]) -> None:
  del argv
  timing.two_threads()
  jax.block_until_ready(jnp.zeros(1) + 1)  # JAX starts before compiling
  peers = {"torch": _torch, "faiss": _faiss}
  if not all(importlib.util.find_spec(name) for name in peers):
    peers = {}
    print("Without peers: pip install -r benchmarks/requirements.txt\n")
  makers = {_PEERS[name]: peers[name] for name in _PEERS if name in peers}
  makers["XLA argmin"] = _xla
  measured = [
    _measure(structure, makers) for structure in codebook_structures(_CAPACITY)
  ]
  large = [_measure_large(structure) for structure in _LARGE]
  report.show_all(
    {
      f"Search for {_POINTS.value} points, milliseconds": [
        *map(_row, measured),
        _row(_total(measured)),
      ],
      f"Large codebooks, {_POINTS.value} points, milliseconds": large,
    },
  )


def _measure(
  structure: tuple[int, int], makers: Mapping[str, Callable[..., _Run]]
) -> dict[str, Any]:
  """Returns the figures of one row of the first table."""
  z, codebook = _data(*structure)
  blocked = _compiled(_nearest("blocked"), z, codebook)
  auto, compile_time = timing.timed(
    lambda: _compiled(_nearest("auto"), z, codebook)
  )
  runs = {"auto": auto, "blocked": blocked}
  if codebook.shape[1] <= _INDEXED_WIDTH:
    index = jax.jit(nearest.index_codebook)(codebook)
    runs["indexed"] = _compiled(_nearest("auto"), z, index)
  expected = blocked()
  for name, run in runs.items():
    _check(name, z, codebook, run(), expected)
  peers = {name: make(z, codebook) for name, make in makers.items()}
  wrong = {
    name: int(farther(z, codebook, run(), expected).sum())
    for name, run in peers.items()
  }
  return {
    "structure": list(structure),
    "auto is": _method(*structure),
    "ms": _milliseconds(runs | peers),
    "wrong": wrong,
    "compile": compile_time,
  }


def _total(measured: list[dict[str, Any]]) -> dict[str, Any]:
  def add(key: str) -> dict[str, Any]:
    # A figure that is missing for one structure has no sum.
    names = set.intersection(*(set(each[key]) for each in measured))
    return {name: sum(each[key][name] for each in measured) for name in names}

  return {
    "structure": "all",
    "auto is": "",
    "ms": add("ms"),
    "wrong": add("wrong"),
    "compile": sum(each["compile"] for each in measured),
  }


def _row(measured: Mapping[str, Any]) -> dict[str, Any]:
  ms, wrong = measured["ms"], measured["wrong"]
  row = {
    "[N, D]": measured["structure"],
    "auto is": measured["auto is"],
    "auto": _rounded(ms["auto"]),
    "blocked": _rounded(ms["blocked"]),
    "indexed": _rounded(ms["indexed"]) if "indexed" in ms else "",
  }
  row |= {name: _rounded(ms[name]) for name in _NAMES if name in wrong}
  row["compile auto (s)"] = round(measured["compile"], 1)
  row |= {
    f"x {name}": _rounded(ms[name] / ms["auto"])
    for name in ("blocked", *_NAMES)
    if name in ms
  }
  return row | {
    f"{name} wrong": wrong[name] for name in _NAMES if name in wrong
  }


def _measure_large(structure: tuple[int, int]) -> dict[str, Any]:
  """Returns one row of the second table."""
  z, codebook = _data(*structure)
  index = jax.jit(nearest.index_codebook)(codebook)
  runs = {
    "blocked": _compiled(_nearest("blocked"), z, codebook),
    "auto": _compiled(_nearest("auto"), z, codebook),
    "indexed": _compiled(_nearest("auto"), z, index),
  }
  expected = runs["blocked"]()
  for name, run in runs.items():
    _check(name, z, codebook, run(), expected)
  build = _compiled(nearest.index_codebook, codebook)
  ms = _milliseconds(runs | {"build": build})
  return {
    "[N, D]": list(structure),
    "auto is": _method(*structure),
    "blocked": _rounded(ms["blocked"]),
    "auto": _rounded(ms["auto"]),
    "build index": _rounded(ms["build"]),
    "indexed": _rounded(ms["indexed"]),
    "auto x blocked": _rounded(ms["blocked"] / ms["auto"]),
    "indexed x blocked": _rounded(ms["blocked"] / ms["indexed"]),
  }


def _data(num_codewords: int, dim: int) -> tuple[np.ndarray, np.ndarray]:
  rng = np.random.default_rng(0)
  z = rng.normal(size=(_POINTS.value, dim)).astype(np.float32)
  return z, rng.normal(size=(num_codewords, dim)).astype(np.float32)


def _nearest(method: str) -> Callable[..., jax.Array]:
  return functools.partial(nearest.nearest_codes, method=method)


def _method(num_codewords: int, dim: int) -> str:
  """Returns the method of "auto" on this machine."""
  if jax.default_backend() == "tpu":
    return "pallas"
  if jax.default_backend() != "cpu":
    return "blocked"
  return nearest.best_on_cpu(_POINTS.value, num_codewords, dim)


def _compiled(function: Callable[..., Any], *arguments: Any) -> Callable:
  compiled = jax.jit(function).lower(*arguments).compile()
  arguments = jax.device_put(arguments)
  return lambda: jax.block_until_ready(compiled(*arguments))


def _xla(z: np.ndarray, codebook: np.ndarray) -> _Run:
  def search(z, codebook):
    squares = jnp.square(codebook).sum(axis=1)
    return jnp.argmin(squares - 2 * z @ codebook.T, axis=1)

  return _compiled(search, z, codebook)


def _torch(z: np.ndarray, codebook: np.ndarray) -> _Run:
  import torch

  points, codewords = torch.from_numpy(z), torch.from_numpy(codebook)

  @torch.inference_mode()
  def search():
    squares = codewords.square().sum(dim=1)
    return (squares - 2 * points @ codewords.T).argmin(dim=1).numpy()

  return search


def _faiss(z: np.ndarray, codebook: np.ndarray) -> _Run:
  import faiss

  index = faiss.IndexFlatL2(codebook.shape[1])
  index.add(codebook)
  return lambda: index.search(z, 1)[1][:, 0]


def _check(
  name: str,
  z: np.ndarray,
  codebook: np.ndarray,
  found: np.ndarray,
  expected: np.ndarray,
) -> None:
  """Checks that two methods differ only between equally near codewords.

  Raises:
    AssertionError: if a codeword is farther, beyond rounding.
  """
  for one, other in ((found, expected), (expected, found)):
    count = farther(z, codebook, one, other).sum()
    if count:
      raise AssertionError(
        f"[{len(codebook)}, {codebook.shape[1]}]: {name} and blocked disagree"
        f" about {count} points"
      )


def _milliseconds(runs: Mapping[str, Callable[[], Any]]) -> dict[str, float]:
  seconds = timing.medians(timing.in_turn(runs, _ROUNDS.value))
  return {name: 1e3 * value for name, value in seconds.items()}


def _rounded(value: float) -> float:
  return round(value, 1)


_PEERS = {"faiss": "FAISS", "torch": "torch"}
_NAMES = (*_PEERS.values(), "XLA argmin")

if __name__ == "__main__":
  app.run(main)
