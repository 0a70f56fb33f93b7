"""Measures a whole step of training, beside the same model in PyTorch.

python -m benchmarks.train_step

A step has encoder, quantizer, decoder, loss, gradient, Adam and the moving
averages of the codebooks, in float32 on two threads, with the settings of the
paper; "improved" and "priced" are variants.  In JAX it is the step that
`experiments.main` runs.  In PyTorch it is that of `benchmarks.peers`, which
needs `pip install -r benchmarks/requirements.txt`.

Each program has a process of its own.  All of them first take one step, which
compiles.  Then they take steps in turn, while the others wait.  Together they
hold about 10 GiB.
"""

from collections.abc import Callable
import functools
import importlib.util
import multiprocessing
from multiprocessing.connection import Connection

from absl import app
from absl import flags
import numpy as np

from benchmarks import timing

# All processes import this file, and their memory is measured.  So a program's
# own imports stand where it starts.

_ROUNDS = flags.DEFINE_integer("rounds", 5, "Turns of each program.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 64, "Images in a step.")
_IMAGE_SIZE = flags.DEFINE_integer("image_size", 28, "Sides of the images.")
_CHANNELS = flags.DEFINE_integer("channels", 1, "Channels of the images.")

_TURN = 1.0  # seconds that a program computes before the next has its turn
_MIB = 2**20

# Takes the number of steps, makes them, and returns when they are done.
_Run = Callable[[int], object]


def main(argv: list[str]) -> None:
  del argv
  from benchmarks import report

  size = _IMAGE_SIZE.value
  shape = (_BATCH_SIZE.value, size, size, _CHANNELS.value)
  programs = dict(_JAX)
  peers = ("torch", "vector_quantize_pytorch")
  if all(importlib.util.find_spec(name) for name in peers):
    programs |= _TORCH
  else:
    print("Without PyTorch: pip install -r benchmarks/requirements.txt\n")
  processes = {name: _Process(run, shape) for name, run in programs.items()}
  seconds = timing.medians(
    timing.in_turn(
      {name: process.turn for name, process in processes.items()},
      _ROUNDS.value,
    )
  )
  step = {name: seconds[name] / processes[name].steps for name in programs}
  rows = [
    {
      "program": name,
      "ms a step": round(1e3 * step[name], 1),
      "x JAX without quantizer": round(step[name] / step[_BASE], 2),
      "more than that (%)": round(100 * (1 - step[_BASE] / step[name]), 1),
      "x JAX adaptive": round(step[name] / step[_ADAPTIVE], 2),
      "first step (s)": round(processes[name].first_step, 1),
      "peak memory (MiB)": round(processes[name].finish() / _MIB),
    }
    for name in programs
  ]
  batch = " x ".join(map(str, shape))
  report.show(f"Training step, batch {batch}", rows)


class _Process:
  """A program in a process of its own, which computes only in its turn.

  Attributes:
    first_step: the seconds of the first step.
    steps: the number of steps in a turn.
  """

  def __init__(self, start: Callable[..., _Run], shape: tuple[int, ...]):
    context = multiprocessing.get_context("spawn")
    self._pipe, theirs = context.Pipe()
    self._process = context.Process(
      target=_serve, args=(theirs, start, shape), daemon=True
    )
    self._process.start()
    theirs.close()  # otherwise `recv` waits forever if the process fails
    self.first_step, step = self._pipe.recv()
    self.steps = max(1, round(_TURN / step))

  def turn(self) -> None:
    self._pipe.send(self.steps)
    self._pipe.recv()

  def finish(self) -> int:
    """Ends the process, and returns its peak memory in bytes."""
    self._pipe.send(0)
    memory = self._pipe.recv()
    self._process.join()
    return memory


def _serve(
  pipe: Connection, start: Callable[..., _Run], shape: tuple[int, ...]
) -> None:
  timing.two_threads()
  pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
  run = start(pixels)
  _, first_step = timing.timed(lambda: run(1))
  _, step = timing.timed(lambda: run(1))
  pipe.send((first_step, step))
  while steps := pipe.recv():
    run(steps)
    pipe.send(None)
  pipe.send(timing.peak_memory())


def _start_jax(images: np.ndarray, *, variant: str) -> _Run:
  import jax
  import jax.numpy as jnp

  from adq_jax.quantizers import base
  from experiments.configs import fashion_mnist
  from experiments.model import build
  from experiments.model import state as states
  from experiments.model import step as steps
  from experiments.processes import devices

  class NoQuantizer(base.Quantizer):
    axis_name: str | None = devices.AXIS
    streams = ()

    def __call__(self, z, **unused):
      del unused
      return base.Quantized(
        values=z, codes=None, loss=jnp.float32(0), metrics={}
      )

  config = fashion_mnist.get_config(variant)
  config.batch_size, config.data.image_size, _, config.data.channels = (
    images.shape
  )
  model = build.create_model(config, axis_name=devices.AXIS)
  if variant == _NO_QUANTIZER:
    model = model.clone(quantizer=NoQuantizer())
  used = jax.devices()[:1]
  state = devices.replicate(states.create_state(config, model), used)
  step = steps.make_train_step(config, model, used)
  (batch,) = devices.prefetch([images], used)

  def run(steps: int) -> None:
    nonlocal state
    for _ in range(steps):
      state, _ = step(state, batch)
    jax.block_until_ready(state)

  return run


def _start_torch(images: np.ndarray, *, quantizer: str) -> _Run:
  import torch

  from benchmarks import peers

  step = peers.make_train_step(quantizer, channels=images.shape[-1])
  batch = torch.from_numpy(images)

  def run(steps: int) -> None:
    for _ in range(steps):
      step(batch)

  return run


_BASE, _ADAPTIVE = "JAX, no quantizer", "JAX, adaptive"
_NO_QUANTIZER = "fixed_2x1"  # the variant whose quantizer is left out
_JAX = {
  _BASE: functools.partial(_start_jax, variant=_NO_QUANTIZER),
  "JAX, fixed [512, 128]": functools.partial(
    _start_jax, variant="fixed_512x128"
  ),
  "JAX, improved [2048, 32]": functools.partial(
    _start_jax, variant="improved_fixed_2048x32"
  ),
  _ADAPTIVE: functools.partial(_start_jax, variant="adaptive"),
  "JAX, improved pool": functools.partial(_start_jax, variant="improved"),
  "JAX, priced, 3 x [256, 32]": functools.partial(
    _start_jax, variant="priced_3x256x32"
  ),
}
_TORCH = {
  "PyTorch, no quantizer": functools.partial(_start_torch, quantizer="none"),
  "PyTorch, adaptive, one-hot codes": functools.partial(
    _start_torch, quantizer="one-hot"
  ),
  "PyTorch, adaptive, vector-quantize-pytorch": functools.partial(
    _start_torch, quantizer="library"
  ),
}

if __name__ == "__main__":
  app.run(main)
