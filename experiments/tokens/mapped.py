"""A function of batches, computed by all local devices."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from experiments.processes.devices import AXIS
from experiments.processes.devices import replicate
from experiments.processes.devices import shard
from experiments.processes.devices import unshard


class Mapped:
  """Applies a function of variables and a batch on all local devices."""

  def __init__(self, function: Callable[..., Any], variables: Any):
    devices = jax.local_devices()
    self._count = len(devices)
    self._variables = replicate(variables, devices)
    self._function = jax.pmap(function, AXIS, devices=devices)
    self._sizes = {}

  def __call__(self, batch: Any) -> Any:
    """Returns NumPy arrays `[n, ...]` for the arrays `[n, ...]` of a batch.

    Every size of a batch would be compiled by itself.  So a batch is filled up
    to the largest one of its shape so far.
    """
    leaves = jax.tree.leaves(batch)
    n, shape = len(leaves[0]), leaves[0].shape[1:]
    size = max(self._sizes.get(shape, 0), -(-n // self._count) * self._count)
    self._sizes[shape] = size
    rows = np.minimum(np.arange(size), n - 1)
    shards = jax.tree.map(lambda x: shard(x[rows], self._count), batch)
    results = self._function(self._variables, shards)
    return jax.tree.map(lambda x: unshard(x)[:n], results)
