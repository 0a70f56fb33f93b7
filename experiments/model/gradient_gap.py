"""The gradient gap: how quantization changes the encoder's gradient."""

from collections.abc import Callable
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import ml_collections

from adq_jax import gradient_gap
from adq_jax import VQVAE
from experiments.model.inputs import make_preparation
from experiments.model.state import TrainState
from experiments.processes.devices import AXIS


def make_gradient_gap(
  config: ml_collections.ConfigDict,
  model: VQVAE,
  devices: Sequence[jax.Device],
) -> Callable[[TrainState, jax.Array], jax.Array]:
  """Returns the gradient gap (eq. 5), mapped over devices.

  The function takes a replicated state, which it does not change, and a batch.
  It returns the gap at this batch with the noise of the state's next step,
  float32 `[devices]`, equal on all devices.

  Args:
    config: the config of the experiment.
    model: the model, with `AXIS` for its axis_name.
    devices: the devices to map over.
  """
  prepare = make_preparation(config, model)

  def gap(state: TrainState, images: jax.Array) -> jax.Array:
    images, rngs, arguments = prepare(state.step, images)
    z = model.apply(state.variables, images, method=lambda m, x: m.encoder(x))

    def quantize(z: jax.Array) -> jax.Array:
      result, _ = model.apply(
        state.variables,
        z,
        train=True,
        mutable=["codebook"],
        rngs=rngs,
        method=lambda m, *args, **kwargs: m.quantizer(*args, **kwargs),
        **arguments,
      )
      return result.values

    def mse(values: jax.Array) -> jax.Array:
      reconstructed = model.apply(
        state.variables, values, method=lambda m, x: m.decoder(x)
      )
      return jnp.square(reconstructed - images).mean()

    return gradient_gap(mse, quantize, z, AXIS, config.gradient_gap)

  return jax.pmap(gap, axis_name=AXIS, devices=devices)
