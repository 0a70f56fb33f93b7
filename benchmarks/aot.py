"""Measures the memory of a training step on accelerators, by compilation alone.

python -m benchmarks.aot
python -m benchmarks.aot --sharded

The first command compiles the whole `pmap` training step of Tiny-ImageNet,
ahead of time, for every device of a v5e host and for an H100: with the adaptive
quantizer, and with the residual one that has a price of bits.
`benchmarks.topologies` says which packages that needs.  Nothing runs; the
figures are the compilers'.  Each chip, variant and dtype has a process of its
own.  It takes twenty minutes or more, since it compiles several times to find
the largest batch that fits.

The second command compiles the training step of one sharded codebook instead,
of 2^24 codewords of width 8, for sixteen chips; see `benchmarks.aot_sharded`.
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
import ml_collections

from benchmarks import aot_sharded
from benchmarks import report
from benchmarks import timing
from benchmarks import topologies
from experiments.configs import tiny_imagenet
from experiments.model import build
from experiments.model import step
from experiments.model.state import create_state
from experiments.processes.devices import AXIS

_CHIPS = flags.DEFINE_multi_enum(
  "chip", ["v5e", "H100"], topologies.CHIPS, "Chips."
)
_VARIANTS = flags.DEFINE_multi_string(
  "variant",
  ["adaptive", "priced_3x256x32"],
  "Variants of experiments/configs/tiny_imagenet.py.",
)
_DTYPES = flags.DEFINE_multi_enum(
  "dtype", ["float32"], ["float32", "bfloat16"], "Of the networks."
)

_SHARDED = flags.DEFINE_bool(
  "sharded", False, "A codebook over sixteen chips instead."
)

_GIB = 2**30
_MEMORY = {"v5e": 16, "v6e": 32, "v5p": 95, "H100": 80}  # GiB of a device
_RESERVED = 0.05  # share of the memory that is left to the runtime
_BATCH = 64  # of a device
_CLOSE = 1.1  # the search ends when the batch that does not fit is so near


def main(argv: list[str]) -> None:
  del argv
  if _SHARDED.value:
    aot_sharded.show()
    return
  rows = []
  for chip in _CHIPS.value:
    package = topologies.missing_package(chip)
    if package:
      print(f"{chip} is left out: pip install {package}")
      continue
    rows += [
      _in_new_process(chip, variant, dtype)
      for variant in _VARIANTS.value
      for dtype in _DTYPES.value
    ]
  if rows:
    report.show(
      "Training step of Tiny-ImageNet, compiled ahead of time",
      rows,
    )


def _in_new_process(chip: str, variant: str, dtype: str) -> dict[str, Any]:
  context = multiprocessing.get_context("spawn")
  with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
    return pool.submit(_measure, chip, variant, dtype).result()


def _measure(chip: str, variant: str, dtype: str) -> dict[str, Any]:
  config = tiny_imagenet.get_config(variant)
  config.dtype = dtype
  compiled, seconds = timing.timed(lambda: _compile(config, chip, _BATCH))
  peak = _peak(compiled)
  fits, too_large = _largest_batch(
    config, chip, peak, _MEMORY[chip] * (1 - _RESERVED)
  )
  return {
    "chip": chip,
    "variant": variant,
    "networks": dtype,
    "devices": len(topologies.devices(chip)),
    "batch of a device": _BATCH,
    "peak (GiB)": round(peak, 2),
    "as large as points x codewords": ", ".join(
      _large_arrays(config, compiled.as_text())
    ),
    "batch that fits": fits,
    "batch that does not": too_large,
    "compile (s)": round(seconds),
  }


def _largest_batch(
  config: ml_collections.ConfigDict, chip: str, peak: float, limit: float
) -> tuple[int, int]:
  """Returns a batch that fits, and a slightly larger one that does not."""
  fits, too_large, size = 0, math.inf, _BATCH
  while True:
    # Memory is nearly proportional to the batch.
    guess = int(0.97 * size * limit / peak)
    if peak <= limit:
      fits = size
      guess = max(guess, math.ceil(1.05 * size))
    else:
      too_large = size
    if too_large <= max(_CLOSE * fits, 1):
      return fits, too_large
    is_between = fits < guess < too_large
    size = guess if is_between else (fits + too_large) // 2
    peak = _peak(_compile(config, chip, size))


def _compile(
  config: ml_collections.ConfigDict, chip: str, batch_size: int
) -> jax.stages.Compiled | None:
  """Returns a compiled step; None if it needs more memory than there is."""
  devices = topologies.devices(chip)
  model = build.create_model(config, AXIS)
  state = jax.eval_shape(lambda: create_state(config, model))
  side, channels = config.data.image_size, config.data.channels
  images = jax.ShapeDtypeStruct((batch_size, side, side, channels), jnp.uint8)
  state, images = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct((len(devices), *x.shape), x.dtype),
    (state, images),
  )
  lowered = step.make_train_step(config, model, devices).lower(state, images)
  try:
    return lowered.compile()
  except jax.errors.JaxRuntimeError as error:
    if "RESOURCE_EXHAUSTED" not in str(error):
      raise
    return None


def _peak(compiled: jax.stages.Compiled | None) -> float:
  """Returns the memory of a device that a step takes, in GiB."""
  if compiled is None:
    return math.inf
  return compiled.memory_analysis().peak_memory_in_bytes / _GIB


def _large_arrays(config: ml_collections.ConfigDict, program: str) -> list[str]:
  """Returns arrays that could hold a number for each point and codeword."""
  side = config.data.image_size // config.model.downsampling
  num_points = _BATCH * side**2
  streams = build.create_model(config).streams
  sizes = {stream.alphabet for stream in streams if stream.width}
  found = set()
  for array, shape in re.findall(r"([a-z]+\d+\[([\d,]+)\])", program):
    dims = [int(dim) for dim in shape.split(",")]
    for size in sizes.intersection(dims):
      if math.prod(dims) >= num_points * size:
        found.add(array)
  return sorted(found)


if __name__ == "__main__":
  app.run(main)
