"""The training step for accelerators that are not there: memory, and batches.

python -m benchmarks.aot

Compiles the whole `pmap` training step of Tiny-ImageNet, adaptive, ahead of
time for each chip, in a process of its own; see `benchmarks.topologies` for
what that needs.  Nothing runs: what is reported comes from the compilers.
"""

import concurrent.futures
import math
import multiprocessing
import re
from typing import Any

from absl import app
from absl import flags
import jax
import jax.numpy as jnp

from benchmarks import report
from benchmarks import timing
from benchmarks import topologies
from experiments import settings
from experiments import train
from experiments.configs import tiny_imagenet
from experiments.devices import AXIS
from experiments.state import create_state

_JSON = flags.DEFINE_string("json", None, "File for the figures.")
_CHIPS = flags.DEFINE_multi_string("chip", ["v5e", "H100"], "Chips.")
_DTYPES = flags.DEFINE_multi_string(
  "dtype", ["float32", "bfloat16"], "Of the networks."
)

_GIB = 2**30
_MEMORY = {"v5e": 16, "v6e": 32, "v5p": 95, "H100": 80}  # GiB of a device
_RESERVED = 0.05  # share of it that the runtime and other programs take
_FIRST_BATCH = 64  # of a device
_TRIES = 3  # halvings, after doubling


def main(argv: list[str]) -> None:
  del argv
  rows = []
  for chip in _CHIPS.value:
    package = topologies.missing_package(chip)
    if package:
      print(f"{chip} is left out: pip install {package}")
      continue
    for dtype in _DTYPES.value:
      rows.append(_in_new_process(chip, dtype))
  if rows:
    report.show(
      "Training step of Tiny-ImageNet, ahead of time", rows, _JSON.value
    )


def _measure(chip: str, dtype: str) -> dict[str, Any]:
  config = tiny_imagenet.get_config()
  config.dtype = dtype
  limit = _MEMORY[chip] * (1 - _RESERVED)
  (compiled, peak), seconds = timing.timed(
    lambda: _compile(config, chip, _FIRST_BATCH)
  )
  fits, first_peak, size = 0, peak, _FIRST_BATCH
  while peak <= limit:
    fits, size = size, 2 * size
    peak = _compile(config, chip, size)[1]
  too_large = size
  for _ in range(_TRIES):
    size = (fits + too_large) // 2
    if _compile(config, chip, size)[1] <= limit:
      fits = size
    else:
      too_large = size
  return {
    "chip": chip,
    "networks": dtype,
    "devices": len(topologies.devices(chip)),
    "batch of a device": _FIRST_BATCH,
    "peak GiB": round(first_peak, 2),
    "buffers of points x codewords": _count_distances(
      config, compiled.as_text()
    ),
    "largest batch found": fits,
    "too large": too_large,
    "compile s": round(seconds, 1),
  }


def _compile(
  config: Any, chip: str, batch_size: int
) -> tuple[jax.stages.Compiled | None, float]:
  """Compiles a step; returns it and its peak memory on a device in GiB."""
  devices = topologies.devices(chip)
  model = settings.create_model(config, AXIS)
  state = jax.eval_shape(lambda: create_state(config, model))
  side, channels = config.data.image_size, config.data.channels
  images = jax.ShapeDtypeStruct((batch_size, side, side, channels), jnp.uint8)
  state, images = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct((len(devices), *x.shape), x.dtype),
    (state, images),
  )
  lowered = train.make_train_step(config, model, devices).lower(state, images)
  try:
    compiled = lowered.compile()
  except jax.errors.JaxRuntimeError as error:
    if "RESOURCE_EXHAUSTED" not in str(error):
      raise
    return None, math.inf
  memory = compiled.memory_analysis()
  return compiled, memory.peak_memory_in_bytes / _GIB


def _count_distances(config: Any, program: str) -> int:
  """How many arrays hold a number for each point and codeword."""
  factor = config.model.downsampling
  num_points = _FIRST_BATCH * (config.data.image_size // factor) ** 2
  sizes = {size for size, _ in settings.structures(config)}
  found = set()
  for shape in re.findall(r"[a-z]+\d+\[([\d,]+)\]", program):
    dims = [int(dim) for dim in shape.split(",")]
    for size in sizes.intersection(dims):
      if math.prod(dims) >= num_points * size:
        found.add(shape)
  return len(found)


def _in_new_process(chip: str, dtype: str) -> dict[str, Any]:
  with concurrent.futures.ProcessPoolExecutor(
    1, mp_context=multiprocessing.get_context("spawn")
  ) as pool:
    return pool.submit(_measure, chip, dtype).result()


if __name__ == "__main__":
  app.run(main)
