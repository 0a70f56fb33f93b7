"""The state of training."""

from typing import Any

import flax
import jax
import jax.numpy as jnp
import ml_collections
import optax

from adq_jax import VQVAE
from experiments import settings


@flax.struct.dataclass
class TrainState:
  """All that a step changes.

  Attributes:
    step: steps done, int32 `[]`.
    params: the model's parameters.
    codebook: the model's collection "codebook".
    opt_state: the optimizer's state.
  """

  step: jax.Array
  params: Any
  codebook: Any
  opt_state: optax.OptState

  @property
  def variables(self) -> dict[str, Any]:
    """What the model is applied to."""
    return {"params": self.params, "codebook": self.codebook}


def create_optimizer(
  config: ml_collections.ConfigDict,
) -> optax.GradientTransformation:
  """Returns Adam with the config's learning rate."""
  return optax.adam(settings.learning_rate(config))


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
      codebook=variables["codebook"],
      opt_state=create_optimizer(config).init(variables["params"]),
    )

  return init()
