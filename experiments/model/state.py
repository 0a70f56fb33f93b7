"""The state of training.

On devices its arrays are `[devices, ...]`.  They are copies, except for a
sharded codebook, of which each device has its part.  On the host, where the
state is saved, it is that of one device, and a sharded codebook is a list of
its shards.
"""

from collections.abc import Sequence
from typing import Any

import flax
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from adq_jax import merge_codebook
from adq_jax import split_codebook
from adq_jax import VQVAE
from experiments.model import schedules
from experiments.processes import devices as placement


@flax.struct.dataclass
class TrainState:
  """Everything that a step changes.

  Attributes:
    step: steps done, int32 `[]`.
    params: the model's parameters.
    codebook: the model's collection "codebook", empty if it has none; on the
      host a list of them, if it is sharded.
    opt_state: the optimizer's state.
  """

  step: jax.Array
  params: Any
  codebook: Any
  opt_state: optax.OptState

  @property
  def variables(self) -> dict[str, Any]:
    """The variables that the model is applied to."""
    return {"params": self.params, "codebook": self.codebook}


def create_optimizer(
  config: ml_collections.ConfigDict,
) -> optax.GradientTransformation:
  """Returns Adam with the config's learning rate."""
  return optax.adam(schedules.learning_rate(config))


def create_state(config: ml_collections.ConfigDict, model: VQVAE) -> TrainState:
  """Returns the state before the first step, a function of the config."""
  size = config.data.image_size
  images = jnp.zeros((1, size, size, config.data.channels))
  params_key, codebook_key = jax.random.split(jax.random.key(config.seed))

  @jax.jit
  def init() -> TrainState:
    variables = model.init(
      {"params": params_key, "codebook": codebook_key}, images
    )
    return TrainState(
      step=jnp.zeros((), jnp.int32),
      params=variables["params"],
      codebook=variables.get("codebook", {}),
      opt_state=create_optimizer(config).init(variables["params"]),
    )

  return init()


def create_on_devices(
  config: ml_collections.ConfigDict,
  model: VQVAE,
  devices: Sequence[jax.Device],
) -> TrainState:
  """Returns the state before the first step, on devices.

  Of a sharded codebook each device makes only its own part.
  """
  if not model.sharded_size:
    return placement.replicate(create_state(config, model), devices)

  def create(count: int) -> TrainState:
    state = create_state(config, model)
    copies = jax.tree.map(
      lambda x: jnp.broadcast_to(x, (count, *x.shape)),
      state.replace(codebook=None),
    )
    return copies.replace(codebook=split_codebook(state.codebook, count))

  return placement.create_parts(create, devices)


def to_devices(state: TrainState, devices: Sequence[jax.Device]) -> TrainState:
  """Copies a state of the host to devices, of any number."""
  if not isinstance(state.codebook, list):
    return placement.replicate(state, devices)
  copies = placement.replicate(state.replace(codebook=None), devices)
  count = len(placement.of_all_processes(devices))
  shards = split_codebook(_merged(state.codebook), count)
  return copies.replace(codebook=placement.place_parts(shards, devices))


def to_host(state: TrainState, is_sharded: bool) -> TrainState:
  """Returns a state of devices as the host has it.

  All processes must call it for a sharded one.
  """
  if not is_sharded:
    return placement.unreplicate(state)
  copy = placement.unreplicate(state.replace(codebook=None))
  return copy.replace(codebook=placement.gather_parts(state.codebook))


def merge(state: TrainState) -> TrainState:
  """Returns a state of the host with its codebook merged."""
  if not isinstance(state.codebook, list):
    return state
  return state.replace(codebook=_merged(state.codebook))


def _merged(shards: list[Any]) -> Any:
  return merge_codebook(jax.tree.map(lambda *x: np.stack(x), *shards))
