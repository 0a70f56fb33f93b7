"""One step of training."""

from collections.abc import Callable
from collections.abc import Sequence
import functools
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import optax

from adq_jax import VQVAE
from experiments.model.inputs import make_preparation
from experiments.model.state import create_optimizer
from experiments.model.state import TrainState
from experiments.processes.devices import AXIS

_Step = Callable[
  [TrainState, jax.Array], tuple[TrainState, dict[str, jax.Array]]
]


def make_train_step(
  config: ml_collections.ConfigDict,
  model: VQVAE,
  devices: Sequence[jax.Device],
) -> Callable[..., tuple[TrainState, dict[str, jax.Array]]]:
  """Returns steps of training, one for each batch, mapped over devices.

  The function takes a replicated state, which it consumes, and batches, each
  of them images uint8 `[devices, B, H, W, C]`.  It returns the next state and
  the metrics of the last step, both replicated.

  A step whose loss or gradient is not finite changes nothing.
  `metrics["is_nonfinite"]`, `[steps]`, says which steps those are.  Where there
  are any, the other metrics are those of the first of them, and unless
  `config.on_nonfinite` is "skip" it is the last step that is taken.
  `metrics["nonfinite_points"]` is the sum over all steps.

  Args:
    config: the config of the experiment.
    model: the model, with `AXIS` for its axis_name.
    devices: the devices to map over.
  """
  train_step = _make_step(config, model)
  stops = config.on_nonfinite != "skip"

  def train_steps(state: TrainState, *batches: jax.Array):
    if len(batches) == 1:
      # A CPU computes convolutions many times slower inside a loop.
      return train_step(state, *batches)
    return _scan_steps(train_step, state, batches, stops)

  return jax.pmap(
    train_steps, axis_name=AXIS, devices=devices, donate_argnums=0
  )


def _make_step(config: ml_collections.ConfigDict, model: VQVAE) -> _Step:
  """Returns one step of training, as one device runs it."""
  optimizer = create_optimizer(config)
  prepare = make_preparation(config, model)
  skips = config.on_nonfinite == "skip"

  def train_step(state: TrainState, images: jax.Array):
    images, rngs, arguments = prepare(state.step, images)

    def compute_loss(params):
      result, updated = model.apply(
        {"params": params, "codebook": state.codebook},
        images,
        train=True,
        mutable=["codebook"],
        rngs=rngs,
        **arguments,
      )
      return result.loss, (result, updated.get("codebook", {}))

    (loss, (result, codebook)), gradient = jax.value_and_grad(
      compute_loss, has_aux=True
    )(state.params)
    gradient, loss, mse, quantizer_loss = jax.lax.pmean(
      (gradient, loss, result.mse, result.quantized.loss), AXIS
    )
    new_state = _updated(optimizer, state, gradient, codebook)
    gradient_norm = optax.global_norm(gradient)
    is_finite = jnp.isfinite(loss) & jnp.isfinite(gradient_norm)
    unchanged = state.replace(step=new_state.step) if skips else state
    return _where(is_finite, new_state, unchanged), {
      "step": state.step + 1,
      "is_nonfinite": ~is_finite[None],
      "loss": loss,
      "gradient_norm": gradient_norm,
      "mse": mse,
      "quantizer_loss": quantizer_loss,
      **{name: x for name, x in arguments.items() if not jnp.ndim(x)},
      **result.quantized.metrics,
    }

  return train_step


def _updated(
  optimizer: optax.GradientTransformation,
  state: TrainState,
  gradient: Any,
  codebook: Any,
) -> TrainState:
  """Returns the next state, with updated parameters and the new codebook."""
  updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
  return TrainState(
    step=state.step + 1,
    params=optax.apply_updates(state.params, updates),
    codebook=codebook,
    opt_state=opt_state,
  )


def _scan_steps(
  train_step: _Step,
  state: TrainState,
  batches: Sequence[jax.Array],
  stops: bool,
) -> tuple[TrainState, dict[str, jax.Array]]:
  """Takes several steps; with `stops`, none after one that is not finite."""

  def go_on(carry, images: jax.Array):
    state, has_ended = carry
    new_state, metrics = train_step(state, images)
    new_state = _where(has_ended, state, new_state)
    if stops:
      has_ended |= metrics["is_nonfinite"][0]
    return (new_state, has_ended), metrics

  (state, _), metrics = jax.lax.scan(
    go_on, (state, jnp.array(False)), jnp.stack(batches)
  )
  is_bad = metrics["is_nonfinite"][:, 0]
  shown = jnp.where(is_bad.any(), jnp.argmax(is_bad), len(batches) - 1)
  return state, {
    **jax.tree.map(lambda values: values[shown], metrics),
    "is_nonfinite": is_bad,
    "nonfinite_points": metrics["nonfinite_points"].sum(),
  }


def _where(condition: jax.Array, yes: TrainState, no: TrainState) -> TrainState:
  return jax.tree.map(functools.partial(jnp.where, condition), yes, no)
