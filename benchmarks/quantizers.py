"""Measures a training step of every quantizer alone, beside PyTorch.

JAX_PLATFORMS=cpu python -m benchmarks.quantizers

Each quantizer spends 16 bits on a point, or nearly.  A step is its forward and
backward pass, the update of its codewords, and one of plain gradient descent of
its projections.  It runs on two threads, in turn with the class of the same
purpose of vector-quantize-pytorch, which needs
`pip install -r benchmarks/requirements.txt`.

Memory is the compilers' figure: for this CPU and, ahead of time, for
accelerators; `benchmarks.topologies` says which packages that needs.  Nothing
runs on these.  A second compilation for twice the points tells what one more
point takes.  In an array of points times codewords it would take 4 bytes for
each of 65,536 codewords.
"""

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
import functools
import importlib.util
from typing import Any

from absl import app
from absl import flags
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

import adq_jax
from benchmarks import report
from benchmarks import timing
from benchmarks import topologies

_POINTS = flags.DEFINE_integer("points", 3136, "Points of a step.")
_ROUNDS = flags.DEFINE_integer("rounds", 7, "Turns of each program.")
_QUANTIZERS = flags.DEFINE_multi_string("quantizer", None, "Rows; all if none.")
_CHIPS = flags.DEFINE_multi_enum(
  "chip", ["v5e", "H100"], topologies.CHIPS, "Chips to compile for."
)

_BITS = 16
_SIZE = 2**_BITS
_WIDTH = 64
_LEVELS = adq_jax.FSQ.recommended[_BITS]
_HALF = adq_jax.FSQ.recommended[_BITS // 2]
_LEARNING_RATE = 1e-3
_MIB = 2**20
_HERE = "here"  # this CPU

_Compile = Callable[..., jax.stages.Compiled]


@dataclasses.dataclass(frozen=True)
class Row:
  """A quantizer, and what it is compared with.

  Attributes:
    quantizer: of points of width 64.
    peer: the name of a class of vector-quantize-pytorch; "" if it has none.
    options: of that class, beside `dim`.
  """

  quantizer: adq_jax.Quantizer
  peer: str = ""
  options: Mapping[str, Any] = dataclasses.field(default_factory=dict)


# The straight-through estimator, as here, and not the rotation trick.
_VQ = {"decay": 0.99, "commitment_weight": 0.25, "rotation_trick": False}
ROWS = {
  "VectorQuantizer": Row(
    adq_jax.VectorQuantizer(_SIZE, _WIDTH),
    "VectorQuantize",
    {"codebook_size": _SIZE, **_VQ},
  ),
  "VectorQuantizer, Cosine": Row(
    adq_jax.VectorQuantizer(_SIZE, _WIDTH, similarity=adq_jax.Cosine()),
    "VectorQuantize",
    {"codebook_size": _SIZE, "use_cosine_sim": True, **_VQ},
  ),
  "ProductQuantizer": Row(
    adq_jax.ProductQuantizer(2, adq_jax.VectorQuantizer(256, _WIDTH // 2)),
    "VectorQuantize",
    {
      "codebook_size": 256,
      "heads": 2,
      "codebook_dim": _WIDTH // 2,
      "separate_codebook_per_head": True,
      **_VQ,
    },
  ),
  "ResidualQuantizer": Row(
    adq_jax.ResidualQuantizer(2, 256, _WIDTH),
    "ResidualVQ",
    {"num_quantizers": 2, "codebook_size": 256, **_VQ},
  ),
  "AdaptiveQuantizer": Row(  # 13 bits at most, and those of the choice
    adq_jax.AdaptiveQuantizer(adq_jax.codebook_structures(_SIZE // 8), _WIDTH)
  ),
  "FSQ": Row(adq_jax.FSQ(_LEVELS, _WIDTH), "FSQ", {"levels": list(_LEVELS)}),
  "ResidualFSQ": Row(
    adq_jax.ResidualFSQ(_HALF, _WIDTH, num_stages=2),
    "ResidualFSQ",
    {"levels": list(_HALF), "num_quantizers": 2},
  ),
  "LFQ": Row(adq_jax.LFQ(_BITS, _WIDTH), "LFQ", {"codebook_size": _SIZE}),
  "BSQ": Row(
    adq_jax.BSQ(_BITS, _WIDTH),
    "LFQ",
    {"codebook_size": _SIZE, "spherical": True},
  ),
  "QINCo": Row(adq_jax.QINCo(2, 256, _WIDTH)),
}


def main(argv: list[str]) -> None:
  del argv
  timing.two_threads()
  names = _QUANTIZERS.value or list(ROWS)
  points = f"{_POINTS.value} points of width {_WIDTH}, {_BITS} bits a point"
  compilers = _compilers()
  report.show_all(
    {
      f"Training step of a quantizer alone, {points}": [
        _time(name) for name in names
      ],
      "Peak memory of that step, inputs and outputs included": [
        _memory(name, compilers) for name in names
      ],
    }
  )


def _time(name: str) -> dict[str, Any]:
  """Returns the row of a quantizer in the first table."""
  row = ROWS[name]
  runs = {"ours": make_step(row.quantizer, _POINTS.value)}
  if row.peer and _has_peers():
    runs["peer"] = make_peer_step(row, _POINTS.value)
  for run in runs.values():
    run()  # the first call is slower
  seconds = timing.medians(timing.in_turn(runs, _ROUNDS.value))
  ms = {name: 1e3 * x for name, x in seconds.items()}
  has_peer = "peer" in ms
  return {
    "quantizer": name,
    "ms a step": round(ms["ours"], 2),
    "vector-quantize-pytorch": row.peer,
    "its ms a step": round(ms["peer"], 2) if has_peer else "",
    "times as long": round(ms["peer"] / ms["ours"], 1) if has_peer else "",
  }


def _memory(name: str, compilers: Mapping[str, _Compile]) -> dict[str, Any]:
  """Returns the row of a quantizer in the second table."""
  result = {"quantizer": name}
  for place, compile_step in compilers.items():
    one, two = (
      _peak(
        _compiled(compile_step, ROWS[name].quantizer, factor * _POINTS.value),
        place,
      )
      for factor in (1, 2)
    )
    result[f"{place} (MiB)"] = round(one / _MIB, 1)
    result[f"{place}, one more point (bytes)"] = round(
      (two - one) / _POINTS.value
    )
  return result


def _compilers() -> dict[str, _Compile]:
  """Returns what compiles for this CPU and for each chip that can be."""
  compilers = {_HERE: lambda step, *of: jax.jit(step).lower(*of).compile()}
  for chip in _CHIPS.value:
    package = topologies.missing_package(chip)
    if package:
      print(f"{chip} is left out: pip install {package}")
    else:
      compilers[chip] = functools.partial(topologies.compile_for, chip)
  return compilers


def _has_peers() -> bool:
  peers = ("torch", "vector_quantize_pytorch")
  return all(importlib.util.find_spec(name) for name in peers)


def make_step(
  quantizer: adq_jax.Quantizer, num_points: int
) -> Callable[[], None]:
  """Returns a training step of a quantizer, which goes on from the last one."""
  points, weights = _data(num_points)
  variables = {"params": {}, **jax.jit(quantizer.init)(_keys(), points)}
  step = jax.jit(functools.partial(_step, quantizer), donate_argnums=0)

  def run() -> None:
    nonlocal variables
    variables, *others = step(variables, points, weights, _keys())
    jax.block_until_ready((variables, others))

  return run


def _step(
  quantizer: adq_jax.Quantizer,
  variables: Mapping[str, Any],
  z: jax.Array,
  weights: jax.Array,
  keys: Mapping[str, jax.Array],
) -> tuple[Any, ...]:
  """Returns the next variables, the gradient to z, and the result."""

  def loss(params: Any, z: jax.Array) -> tuple[jax.Array, Any]:
    result, state = quantizer.apply(
      {**variables, "params": params},
      z,
      train=True,
      mutable=nn.DenyList("params"),
      rngs=keys,
    )
    return result.loss + (result.values * weights).mean(), (result, state)

  params = variables["params"]
  (gradient, of_z), (result, state) = jax.grad(loss, (0, 1), has_aux=True)(
    params, z
  )
  params = jax.tree.map(lambda x, g: x - _LEARNING_RATE * g, params, gradient)
  return {"params": params, **state}, of_z, result


def make_peer_step(row: Row, num_points: int) -> Callable[[], None]:
  """Returns the same step of a row's peer."""
  import torch
  import vector_quantize_pytorch

  module = getattr(vector_quantize_pytorch, row.peer)(dim=_WIDTH, **row.options)
  points, weights = map(torch.from_numpy, _data(num_points))
  points.requires_grad_()
  parameters = list(module.parameters())

  def run() -> None:
    values, _, *losses = module(points[None])
    loss = (values[0] * weights).mean() + sum(x.sum() for x in losses)
    loss.backward()
    with torch.no_grad():
      for parameter in parameters:
        parameter -= _LEARNING_RATE * parameter.grad
    for leaf in (points, *parameters):
      leaf.grad = None

  return run


def _data(num_points: int) -> tuple[np.ndarray, np.ndarray]:
  """Returns points `[T, 64]`, and weights of their values in the loss."""
  rng = np.random.default_rng(0)
  shape = (num_points, _WIDTH)
  return tuple(rng.normal(size=shape).astype(np.float32) for _ in range(2))


def _keys() -> dict[str, jax.Array]:
  names = ("params", "codebook", "gumbel", "dropout")
  return dict(zip(names, jax.random.split(jax.random.key(0), 4), strict=True))


def _compiled(
  compile_step: _Compile, quantizer: adq_jax.Quantizer, num_points: int
) -> jax.stages.Compiled:
  """Returns a compiled step."""
  points = jax.ShapeDtypeStruct((num_points, _WIDTH), jnp.float32)
  keys = jax.eval_shape(_keys)
  variables = {"params": {}, **jax.eval_shape(quantizer.init, keys, points)}
  return compile_step(
    functools.partial(_step, quantizer), variables, points, points, keys
  )


def _peak(compiled: jax.stages.Compiled, place: str) -> int:
  """Returns the bytes that a step takes."""
  memory = compiled.memory_analysis()
  if place != _HERE:
    return memory.peak_memory_in_bytes
  # A CPU's peak leaves temporary arrays out.
  return (
    memory.argument_size_in_bytes
    + memory.output_size_in_bytes
    - memory.alias_size_in_bytes
    + memory.temp_size_in_bytes
  )


if __name__ == "__main__":
  app.run(main)
