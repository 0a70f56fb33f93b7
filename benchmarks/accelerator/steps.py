"""A training step of each config on a device against the same on the host.

Where rounding takes a few points to other codewords, gradients move by much
more than it.  So a step of the device may be as far from the host's as the
host's own is, twice, when its parameters move by rounding.
"""

from collections.abc import Iterator
import functools
from typing import Any

import jax
import ml_collections
import numpy as np
import optax

from benchmarks.accelerator.rows import MEASURED
from benchmarks.accelerator.rows import Row
from experiments.configs import datasets
from experiments.model import build
from experiments.model import step as steps
from experiments.model.state import create_state
from experiments.model.state import TrainState
from experiments.processes import devices
from tests.support import tiny

_FIRST = ("fashion_mnist", "photo_patches")  # the paper's, and the quick start
_COMPARED = ("loss", "gradient", "codebook")
_ROUNDING = 2.0**-17  # of sums of a thousand float32 products; TF32 has 2^-11
_MOVES = 3  # random ones
_SLACK = 2
_LEAST = 2e-6  # the mean of all pixels is rounded too, whatever the parameters


class Experiment:
  """A config with its model, state before the first step, and a batch.

  Attributes:
    config: the config.
    model: its model.
    state: on the host.
    images: random, uint8 `[B, H, W, C]`.
  """

  def __init__(self, config: ml_collections.ConfigDict):
    self.config = config
    self.model = build.create_model(config, devices.AXIS)
    self.state = jax.device_get(create_state(config, self.model))
    side, channels = config.data.image_size, config.data.channels
    self.images = np.random.default_rng(0).integers(
      0, 256, (config.batch_size, side, side, channels), np.uint8
    )
    self._steps = {}

  def step(
    self, device: jax.Device, precision: str | None, move: int | None = None
  ) -> tuple[TrainState, dict[str, jax.Array]]:
    """Takes the first step.

    Args:
      device: takes it.
      precision: of matrix products and convolutions; None: JAX's default.
      move: seed of a random move of the parameters by rounding; None: none.

    Returns:
      The next state and the metrics, both on the device and `[1, ...]`.
    """
    state = self.state
    if move is not None:
      state = state.replace(params=_moved(state.params, move))
    with jax.default_matmul_precision(precision):
      take = self._compiled(device, precision)
      return take(devices.replicate(state, [device]), self._batch(device))

  def run(self, device: jax.Device) -> Any:
    """Returns a function that takes the next step, and waits for it."""
    take, batch = self._compiled(device, None), self._batch(device)
    state = devices.replicate(self.state, [device])

    def run() -> None:
      nonlocal state
      state, _ = take(state, batch)
      jax.block_until_ready(state)

    return run

  def _compiled(self, device: jax.Device, precision: str | None) -> Any:
    key = device, precision
    if key not in self._steps:
      self._steps[key] = steps.make_train_step(
        self.config, self.model, [device]
      )
    return self._steps[key]

  def _batch(self, device: jax.Device) -> jax.Array:
    (batch,) = devices.prefetch([self.images], [device])
    return batch


def _moved(params: Any, seed: int) -> Any:
  rng = np.random.default_rng(seed)

  def move(x: np.ndarray) -> np.ndarray:
    return (x * (1 + _ROUNDING * rng.normal(size=x.shape))).astype(x.dtype)

  return jax.tree.map(move, params)


@functools.cache
def experiment(
  dataset: str, variant: str | None, *, is_small: bool
) -> Experiment:
  """Returns the experiment of a config file, made once.

  Args:
    dataset: a key of `datasets.GET_CONFIG`.
    variant: see `variants`; None for the file's default.
    is_small: whether model, images and batch are tiny.
  """
  get_config = datasets.GET_CONFIG[dataset]
  config = get_config() if variant is None else get_config(variant)
  if is_small:
    config.data.image_size = 8
    config = tiny.shrunk(config, batch_size=2)
  return Experiment(config)


def rows(
  device: jax.Device, host: jax.Device, *, is_small: bool
) -> Iterator[Row]:
  """Yields a row for each config file, and for default precision.

  Args:
    device: takes steps.
    host: what it is compared with.
    is_small: whether to take the first one alone, and tiny.
  """
  in_order = dict.fromkeys((*_FIRST, *reversed(datasets.GET_CONFIG)))
  for dataset in _FIRST[:1] if is_small else in_order:
    arguments = (device, host, dataset)
    yield Row(
      f"step of `{dataset}`, float32",
      functools.partial(check_step, *arguments, is_small=is_small),
    )
    if dataset in _FIRST:
      yield Row(
        f"step of `{dataset}`, default precision",
        functools.partial(measure_default, *arguments, is_small=is_small),
        MEASURED,
      )


def check_step(
  device: jax.Device, host: jax.Device, dataset: str, *, is_small: bool
) -> str:
  """Checks a step whose products are float32 on both.

  Args:
    device: takes the step.
    host: what it is compared with.
    dataset: a key of `datasets.GET_CONFIG`.
    is_small: whether the config is tiny.

  Returns:
    The relative differences, and those that are allowed.

  Raises:
    AssertionError: if one of them is larger than rounding makes it.
  """
  one = experiment(dataset, None, is_small=is_small)
  expected = _outcome(*one.step(host, "highest"))
  found = _differences(_outcome(*one.step(device, "highest")), expected)
  moves = [
    _differences(_outcome(*one.step(host, "highest", seed)), expected)
    for seed in range(_MOVES)
  ]
  allowed = {
    name: max(_LEAST, _SLACK * max(move[name] for move in moves))
    for name in _COMPARED
  }
  for name, difference in found.items():
    assert difference <= allowed[name], (
      f"{name} differs by {difference:.1e}, more than {allowed[name]:.1e}"
    )
  return f"{_told(found)}; allowed are {_told(allowed)}"


def measure_default(
  device: jax.Device, host: jax.Device, dataset: str, *, is_small: bool
) -> str:
  """Returns what lower precision, such as TF32 and bfloat16, makes of a step.

  Args:
    device: takes the step, with products as JAX has them by default.
    host: what it is compared with.
    dataset: a key of `datasets.GET_CONFIG`.
    is_small: whether the config is tiny.
  """
  one = experiment(dataset, None, is_small=is_small)
  expected = _outcome(*one.step(host, "highest"))
  return _told(_differences(_outcome(*one.step(device, None)), expected))


def _outcome(
  state: TrainState, metrics: dict[str, jax.Array]
) -> dict[str, Any]:
  """Returns what is compared, by the names of `_COMPARED`.

  Not the parameters: Adam's first update has the signs of the gradient alone.
  """
  return jax.device_get(
    {
      "loss": metrics["loss"],
      "gradient": optax.tree_utils.tree_get(state.opt_state, "mu"),
      "codebook": state.codebook,
    }
  )


def _differences(
  found: dict[str, Any], expected: dict[str, Any]
) -> dict[str, float]:
  return {
    name: _relative_distance(found[name], expected[name]) for name in _COMPARED
  }


def _relative_distance(found: Any, expected: Any) -> float:
  """Returns the norm of the difference of two trees, by that of the second."""
  found, expected = (
    np.concatenate(
      [np.ravel(x).astype(np.float64) for x in jax.tree.leaves(tree)]
    )
    for tree in (found, expected)
  )
  return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def _told(differences: dict[str, float]) -> str:
  return ", ".join(f"{name} {x:.1e}" for name, x in differences.items())
