"""One step of training, and how much quantization changes its gradient."""

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from adq_jax import gradient_gap
from adq_jax import VQVAE
from experiments.data import augment
from experiments.model import schedules
from experiments.model.state import create_optimizer
from experiments.model.state import TrainState
from experiments.processes.devices import AXIS
from experiments.processes.devices import unreplicate

_Step = Callable[
  [TrainState, jax.Array], tuple[TrainState, dict[str, jax.Array]]
]


@dataclasses.dataclass(frozen=True)
class Programs:
  """What training runs on devices; the functions that make each describe it."""

  train_step: Callable[..., tuple[TrainState, dict[str, jax.Array]]]
  gradient_gap: Callable[[TrainState, jax.Array], jax.Array]
  check_replicas: Callable[[TrainState], None]


def make_programs(
  config: ml_collections.ConfigDict,
  model: VQVAE,
  devices: Sequence[jax.Device],
) -> Programs:
  """Returns the programs of a run on these devices of all processes.

  Args:
    config: of the experiment.
    model: with `AXIS` for its axis_name.
    devices: to map over.
  """
  return Programs(
    make_train_step(config, model, devices),
    make_gradient_gap(config, model, devices),
    make_replica_check(model, devices),
  )


def make_train_step(
  config: ml_collections.ConfigDict,
  model: VQVAE,
  devices: Sequence[jax.Device],
) -> Callable[..., tuple[TrainState, dict[str, jax.Array]]]:
  """Returns steps of training, one for each batch, mapped over devices.

  It takes a replicated state, which it consumes, and batches, each of them
  images uint8 `[devices, B, H, W, C]`; it returns the next state and the
  metrics of the last step, both replicated.  A step whose loss or gradient is
  not finite changes nothing; `metrics["is_nonfinite"]`, `[steps]`, tells which
  were such.  Where any were, the other metrics are those of the first of them,
  and unless `config.on_nonfinite` is "skip" it is the last step.
  `metrics["nonfinite_points"]` is the sum over all steps.

  Args:
    config: of the experiment.
    model: with `AXIS` for its axis_name.
    devices: to map over.
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
  """Returns one step of training, of one device."""
  optimizer = create_optimizer(config)
  prepare = _make_preparation(config, model)
  skips = config.on_nonfinite == "skip"

  def train_step(state: TrainState, images: jax.Array):
    images, rngs, choice = prepare(state.step, images)

    def compute_loss(params):
      result, updated = model.apply(
        {"params": params, "codebook": state.codebook},
        images,
        train=True,
        mutable=["codebook"],
        rngs=rngs,
        **choice,
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
    as_it_was = state.replace(step=new_state.step) if skips else state
    return _where(is_finite, new_state, as_it_was), {
      "step": state.step + 1,
      "is_nonfinite": ~is_finite[None],
      "loss": loss,
      "gradient_norm": gradient_norm,
      "mse": mse,
      "quantizer_loss": quantizer_loss,
      **choice,
      **result.quantized.metrics,
    }

  return train_step


def _updated(
  optimizer: optax.GradientTransformation,
  state: TrainState,
  gradient: Any,
  codebook: Any,
) -> TrainState:
  """The state after an update of the parameters, and a new codebook."""
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
  """Takes several steps; of those after one not finite none, if it `stops`."""

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


def make_replica_check(
  model: VQVAE,
  devices: Sequence[jax.Device],
) -> Callable[[TrainState], None]:
  """Returns a check that a replicated state is the same on all devices.

  It compares bits, and waits for the state; a sharded codebook it leaves out.
  It raises a RuntimeError that names the arrays which differ: a bug, or a
  broken device.
  """

  def to_bits(leaf: jax.Array) -> jax.Array:
    if jnp.issubdtype(leaf.dtype, jnp.floating):
      leaf = jax.lax.bitcast_convert_type(leaf, f"int{8 * leaf.dtype.itemsize}")
    return leaf.astype(jnp.int32).ravel()

  def are_alike(state: TrainState) -> TrainState:
    leaves, structure = jax.tree.flatten(state)
    bits = jnp.concatenate([to_bits(leaf) for leaf in leaves])
    same = jax.lax.pmax(bits, AXIS) == jax.lax.pmin(bits, AXIS)
    ends = np.cumsum([leaf.size for leaf in leaves])[:-1]
    return structure.unflatten(
      part.all() for part in jnp.split(same, ends.tolist())
    )

  alike = jax.pmap(are_alike, AXIS, devices=devices)

  def check(state: TrainState) -> None:
    if model.sharded_size:
      state = state.replace(codebook=None)
    leaves, _ = jax.tree_util.tree_flatten_with_path(unreplicate(alike(state)))
    differing = [
      jax.tree_util.keystr(path, simple=True, separator="/")
      for path, is_same in leaves
      if not is_same
    ]
    if differing:
      raise RuntimeError(
        f"devices disagree at step {int(unreplicate(state.step))} in"
        f" {', '.join(differing)}"
      )

  return check


def make_gradient_gap(
  config: ml_collections.ConfigDict,
  model: VQVAE,
  devices: Sequence[jax.Device],
) -> Callable[[TrainState, jax.Array], jax.Array]:
  """Returns the gradient gap (eq. 5), mapped over devices.

  It takes a replicated state, which it leaves as it is, and a batch; it
  returns the gap at this batch with the noise of the state's next step,
  float32 `[devices]`, the same on all of them.

  Args:
    config: of the experiment.
    model: with `AXIS` for its axis_name.
    devices: to map over.
  """
  prepare = _make_preparation(config, model)

  def gap(state: TrainState, images: jax.Array) -> jax.Array:
    images, rngs, choice = prepare(state.step, images)
    z = model.apply(state.variables, images, method=lambda m, x: m.encoder(x))

    def quantize(z: jax.Array) -> jax.Array:
      result, _ = model.apply(
        state.variables,
        z,
        train=True,
        mutable=["codebook"],
        rngs=rngs,
        method=lambda m, *args, **kwargs: m.quantizer(*args, **kwargs),
        **choice,
      )
      return result.values

    def mse(values: jax.Array) -> jax.Array:
      reconstructed = model.apply(
        state.variables, values, method=lambda m, x: m.decoder(x)
      )
      return jnp.square(reconstructed - images).mean()

    return gradient_gap(mse, quantize, z, AXIS, config.gradient_gap)

  return jax.pmap(gap, axis_name=AXIS, devices=devices)


def _make_preparation(
  config: ml_collections.ConfigDict, model: VQVAE
) -> Callable[..., tuple[jax.Array, dict[str, jax.Array], dict[str, Any]]]:
  """Returns what makes a model's inputs of a step.

  It takes the number of steps done and images uint8 `[B, H, W, C]`; it returns
  images for the model, rng streams, and more arguments of the quantizer.
  """
  temperature = schedules.temperature(config)
  root_key = jax.random.key(config.seed)

  def prepare(step: jax.Array, images: jax.Array):
    # Keys are the same on all devices; what belongs to an example is told
    # apart by its place in the whole batch.
    augment_key, gumbel_key, codebook_key = jax.random.split(
      jax.random.fold_in(root_key, step), 3
    )
    batch_size = len(images)
    example_index = jnp.arange(batch_size)
    example_index += batch_size * jax.lax.axis_index(AXIS)
    images = augment.to_float(
      augment.augment(
        augment_key,
        images,
        example_index,
        size=config.data.image_size,
        random_flip=config.data.random_flip,
      )
    )
    choice = {"temperature": temperature(step)} if model.draws else {}
    return images, {"gumbel": gumbel_key, "codebook": codebook_key}, choice

  return prepare
