"""Measures the memory of programs beside their inputs and outputs.

python -m benchmarks.memory

The programs are the search for the nearest codewords, beside XLA's plain argmin
of all expanded distances; an update, with its statistics and its placement of
codewords; and a whole step of training with the paper's settings.  They are
compiled for this machine, and none is run.
"""

from collections.abc import Callable
from typing import Any

from absl import app
from absl import flags
import jax
import jax.numpy as jnp

from adq_jax import codebook_structures
from adq_jax import nearest_codes
from adq_jax.codebook import placement
from adq_jax.codebook import state as codebooks
from adq_jax.codebook import statistics
from adq_jax.codebook import updates
from benchmarks import report
from experiments.configs import fashion_mnist
from experiments.model import build
from experiments.model import step
from experiments.model.state import create_state
from experiments.processes import devices

_POINTS = flags.DEFINE_integer("points", 8192, "Points that are searched for.")

_STRUCTURES = (  # (N, D) of the paper, and three of sixteen times the size
  *codebook_structures(65_536),
  (262_144, 4),
  (524_288, 2),
  (1_048_576, 1),
)


def main(argv: list[str]) -> None:
  del argv
  rows = [_search(*structure) for structure in _STRUCTURES]
  rows += [_update(*structure) for structure in ((512, 128), (65_536, 1))]
  rows += [_train_step(variant) for variant in ("fixed_512x128", "adaptive")]
  report.show("Temporary memory in MiB", rows)


def _search(codebook_size: int, embedding_dim: int) -> dict[str, Any]:
  shapes = (
    jax.ShapeDtypeStruct((_POINTS.value, embedding_dim), jnp.float32),
    jax.ShapeDtypeStruct((codebook_size, embedding_dim), jnp.float32),
  )
  return {
    "what": f"{_POINTS.value} points, [{codebook_size}, {embedding_dim}]",
    "here": _temporary(jax.jit(nearest_codes), *shapes),
    "argmin of all distances": _temporary(jax.jit(_plain_argmin), *shapes),
  }


def _plain_argmin(z: jax.Array, codebook: jax.Array) -> jax.Array:
  """Returns the indices of the nearest codewords, as is usual, `[T]`."""
  return jnp.argmin(jnp.square(codebook).sum(axis=1) - 2 * z @ codebook.T, 1)


def _update(codebook_size: int, embedding_dim: int) -> dict[str, Any]:
  points = jax.ShapeDtypeStruct((_POINTS.value, embedding_dim), jnp.float32)
  codes = jax.ShapeDtypeStruct((_POINTS.value,), jnp.int32)
  key = jax.eval_shape(lambda: jax.random.key(0))
  state = jax.eval_shape(
    lambda key: codebooks.init_codebook(key, codebook_size, embedding_dim), key
  )

  def update(key, state, points, codes):
    counts = statistics.code_counts(codes, codebook_size)
    sums = statistics.code_sums(points, codes, codebook_size)
    state = updates.ema_update(state, counts, sums, 0.99)
    return placement.revive_dead_codes(key, state, points, 0.1)

  return {
    "what": f"update by {_POINTS.value} points, [{codebook_size},"
    f" {embedding_dim}]",
    "here": _temporary(jax.jit(update), key, state, points, codes),
    "argmin of all distances": "",
  }


def _train_step(variant: str) -> dict[str, Any]:
  config = fashion_mnist.get_config(variant)
  model = build.create_model(config, axis_name=devices.AXIS)
  used = jax.devices()[:1]
  size, channels = config.data.image_size, config.data.channels
  images = jnp.zeros((1, config.batch_size, size, size, channels), jnp.uint8)
  state = devices.replicate(create_state(config, model), used)
  return {
    "what": f"training step, {variant}, batch {config.batch_size}",
    "here": _temporary(
      step.make_train_step(config, model, used), state, images
    ),
    "argmin of all distances": "",
  }


def _temporary(function: Callable[..., Any], *arguments: Any) -> float:
  memory = function.lower(*arguments).compile().memory_analysis()
  return round(memory.temp_size_in_bytes / 2**20, 1)


if __name__ == "__main__":
  app.run(main)
