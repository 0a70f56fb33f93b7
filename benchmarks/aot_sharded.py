"""Measures memory and collectives of a codebook over sixteen chips.

It compiles the training step of a sharded `VectorQuantizer` alone, with its
search and its moving averages, ahead of time for a v5e 4x4.  Nothing runs.
"""

import collections
import math
import re
from typing import Any

import jax
import jax.numpy as jnp

from adq_jax import split_codebook
from adq_jax import VectorQuantizer
from benchmarks import report
from benchmarks import timing
from benchmarks import topologies

CODEBOOK_SIZE = 2**24
EMBEDDING_DIM = 8
POINTS = 4096  # of a device

_AXIS = "devices"
_MIB = 2**20
_KINDS = (
  "all-gather",
  "all-reduce",
  "all-to-all",
  "collective-permute",
  "reduce-scatter",
)
_BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2}  # others: 4


def show() -> None:
  """Prints the figures of the compiler, or the package that is missing."""
  package = topologies.missing_package(topologies.POD)
  if package:
    print(f"{topologies.POD} is left out: pip install {package}")
    return
  compiled, seconds = timing.timed(
    lambda: compile_step(CODEBOOK_SIZE, EMBEDDING_DIM, POINTS)
  )
  num_devices = len(topologies.devices(topologies.POD))
  memory = compiled.memory_analysis()
  title = (
    f"Training step of a codebook [{CODEBOOK_SIZE},{EMBEDDING_DIM}] over"
    f" {num_devices} chips, {topologies.POD}, {POINTS} points each"
  )
  sizes = {
    "codebook's state, whole": 4 * CODEBOOK_SIZE * (2 * EMBEDDING_DIM + 1),
    "arguments of a device": memory.argument_size_in_bytes,
    "temporaries of a device": memory.temp_size_in_bytes,
    "peak of a device": memory.peak_memory_in_bytes,
  }
  rows = [{"what": k, "MiB": round(v / _MIB, 1)} for k, v in sizes.items()]
  tables = {
    f"{title}, compiled in {seconds:.0f} s": rows,
    "Its collectives": collectives(compiled.as_text()),
  }
  report.show_all(tables)


def compile_step(
  codebook_size: int, embedding_dim: int, num_points: int
) -> jax.stages.Compiled:
  """Compiles a training step for the sixteen chips.

  Args:
    codebook_size: N.
    embedding_dim: D.
    num_points: the number of points of each device.
  """
  devices = topologies.devices(topologies.POD)
  quantizer = VectorQuantizer(
    codebook_size, embedding_dim, axis_name=_AXIS, shard_codebook=True
  )

  def init(z: jax.Array) -> Any:
    state = quantizer.init(jax.random.key(0), z)["codebook"]
    return split_codebook(state, len(devices))

  def step(state: Any, z: jax.Array):
    result, updated = quantizer.apply(
      {"codebook": state}, z, train=True, mutable=["codebook"]
    )
    return updated["codebook"], result

  shape = (len(devices), num_points, embedding_dim)
  points = jax.ShapeDtypeStruct(shape, jnp.float32)
  state = jax.eval_shape(init, points)
  mapped = jax.pmap(step, _AXIS, devices=devices, donate_argnums=0)
  return mapped.lower(state, points).compile()


def collectives(program: str) -> list[dict[str, Any]]:
  """Returns the collectives of a compiled program.

  Args:
    program: the text of the program.

  Returns:
    A row for each kind of collective, with their number, and the bytes of their
    results on a device.  A collective in a loop counts once.
  """
  # A line is `name = (shapes) kind(operands)`.  The instruction that starts an
  # asynchronous collective has operands among its shapes, so the one that ends
  # it is counted.
  pattern = rf" = (.*?) ({'|'.join(_KINDS)})(-done)?\("
  counts, sizes = collections.Counter(), collections.Counter()
  for shapes, kind, _ in re.findall(pattern, program):
    counts[kind] += 1
    for dtype, dims in re.findall(r"\b([a-z]+\d*)\[([\d,]*)\]", shapes):
      count = math.prod(int(n) for n in dims.split(",") if n)
      sizes[kind] += count * _BYTES.get(dtype, 4)
  return [
    {"kind": kind, "count": counts[kind], "KiB": round(sizes[kind] / 1024, 1)}
    for kind in sorted(counts)
  ]
