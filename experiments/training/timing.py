"""Measures how long a step of training takes on this machine."""

import statistics
import time

import jax
import ml_collections
import numpy as np

from experiments.model import build
from experiments.model.state import create_on_devices
from experiments.model.step import make_train_step
from experiments.processes.devices import AXIS
from experiments.processes.devices import choose_devices
from experiments.processes.devices import prefetch

_STEPS = 5


def seconds_per_step(config: ml_collections.ConfigDict) -> float:
  """Returns the median time of a config's steps, without compilation.

  The steps train on noise, so the data need not be there.
  """
  model = build.create_model(config, AXIS)
  devices = choose_devices(config.batch_size, model.sharded_size)
  state = create_on_devices(config, model, devices)
  step = make_train_step(config, model, devices)
  size = config.data.image_size
  images = np.random.default_rng(0).integers(
    0, 256, (config.batch_size, size, size, config.data.channels), np.uint8
  )
  (batch,) = prefetch([images], devices)
  seconds = []
  for _ in range(_STEPS + 1):
    started = time.perf_counter()
    state, _ = jax.block_until_ready(step(state, batch))
    seconds.append(time.perf_counter() - started)
  return statistics.median(seconds[1:])
