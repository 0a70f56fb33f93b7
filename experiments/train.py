"""Training, readable top to bottom from `train_and_evaluate`."""

from collections.abc import Callable
from collections.abc import Sequence
import functools
import pathlib
import time
from typing import Any

from clu import parameter_overview
import jax
import jax.numpy as jnp
import ml_collections
import optax

from adq_jax import VQVAE
from experiments import augment
from experiments import data
from experiments import report
from experiments import settings
from experiments import workdir as workdirs
from experiments.checkpoints import Checkpoints
from experiments.data import pipeline
from experiments.devices import AXIS
from experiments.devices import choose_devices
from experiments.devices import prefetch
from experiments.devices import replicate
from experiments.devices import unreplicate
from experiments.errors import UserError
from experiments.evaluate import describe
from experiments.evaluate import Evaluator
from experiments.logging import MetricLog
from experiments.logging import Progress
from experiments.state import create_optimizer
from experiments.state import create_state
from experiments.state import TrainState


def train_and_evaluate(
  config: ml_collections.ConfigDict, workdir: str | pathlib.Path
) -> dict[str, Any]:
  """Trains until `config.num_steps`, from where `workdir` stands.

  Args:
    config: of an experiment.
    workdir: of the run; see the README for what it will hold.

  Returns:
    What is in summary.json.

  Raises:
    UserError: for bad input, before any work starts, and for a loss that is
      not finite.
  """
  workdir = pathlib.Path(workdir)
  settings.check(config)
  with workdirs.claim(workdir, config):
    finished = report.read_summary(workdir)
    if finished and finished["steps"] >= config.num_steps:
      print(
        f"{workdir} holds a finished run of {finished['steps']} steps;"
        " extend it with a larger --config.num_steps, or name another"
        " directory with --workdir=DIR"
      )
      return finished
    return _train(config, workdir)


def _train(
  config: ml_collections.ConfigDict, workdir: pathlib.Path
) -> dict[str, Any]:
  devices = choose_devices(config.batch_size)
  splits = data.load(config)
  model = settings.create_model(config, axis_name=AXIS)
  state = create_state(config, model)
  checkpoints = Checkpoints(workdir)
  seconds = 0.0
  if checkpoints.latest_step() is not None:
    state, seconds = checkpoints.restore(checkpoints.latest_step(), state)
    print(f"Resuming {workdir} at step {int(state.step)}")
  else:
    print(
      parameter_overview.get_parameter_overview(
        state.variables, include_stats=False
      )
    )
  step = int(state.step)
  log = MetricLog(workdir, step)
  progress = Progress(config.num_steps, step, config.batch_size)
  state = replicate(state, devices)
  train_step = make_train_step(config, model, devices)
  evaluator = Evaluator(config, model, devices)
  batches = pipeline.TrainBatches(
    splits["train"].images,
    seed=config.seed,
    batch_size=config.batch_size,
    num_steps=config.num_steps,
  )
  batches = prefetch(
    pipeline.iterate(batches, first=step), devices, config.steps_per_call
  )
  started = time.perf_counter() - seconds
  metrics, result = None, None

  try:
    while step < config.num_steps:
      previous = metrics
      # Up to the next multiple, where logs and checkpoints are due.
      count = config.steps_per_call - step % config.steps_per_call
      count = min(count, config.num_steps - step)
      with progress.waiting():
        next_batches = [next(batches) for _ in range(count)]
      state, metrics = train_step(state, *next_batches)
      # The device computes these steps while the host looks at those before.
      _check_finite(workdir, previous)
      step += count
      progress.advance(count)
      to_log, to_evaluate, to_save = (
        step == config.num_steps or step % every == 0
        for every in (
          config.log_every,
          config.eval_every,
          config.checkpoint_every,
        )
      )
      if to_log or to_evaluate or to_save:
        _check_finite(workdir, metrics)
      if to_log:
        values = jax.device_get(unreplicate(metrics))
        del values["is_finite"], values["step"]
        speed = progress.report(step, float(values["loss"]))
        log.write(step, "train", {**values, **speed})
      if not (to_evaluate or to_save):
        continue
      with progress.pause():
        figures = None
        if to_evaluate:
          result = evaluator.evaluate(state.variables, splits["validation"])
          figures = describe(config, result, splits["validation"])
          log.write(step, "validation", report.loggable(figures))
          progress.say(report.one_line(step, figures))
        checkpoints.save(
          unreplicate(state),
          time.perf_counter() - started,
          figures and {"mse": figures["mse"]},
        )
    checkpoints.wait()
  finally:
    progress.close()
    log.close()
    checkpoints.close()
  run = {
    "steps": step,
    "seconds": round(time.perf_counter() - started, 1),
    "devices": f"{len(devices)} x {devices[0].device_kind}",
  }
  return report.finish(config, workdir, state, evaluator, splits, result, run)


def make_train_step(
  config: ml_collections.ConfigDict,
  model: VQVAE,
  devices: Sequence[jax.Device],
) -> Callable[..., tuple[TrainState, dict[str, jax.Array]]]:
  """Returns steps of training, one for each batch, mapped over devices.

  It takes a replicated state, which it consumes, and batches, each of them
  images uint8 `[devices, B, H, W, C]`; it returns the next state and the
  metrics of the last step, both replicated.  A step whose loss or gradient is
  not finite is the last: the state stays as it was before it, and
  `metrics["is_finite"]` is false.

  Args:
    config: of the experiment.
    model: with `AXIS` for its axis_name.
    devices: to map over.
  """
  optimizer = create_optimizer(config)
  temperature = settings.temperature(config)
  root_key = jax.random.key(config.seed)

  def train_step(state: TrainState, images: jax.Array):
    # Keys are the same on all devices; what belongs to an example is told
    # apart by its place in the whole batch.
    augment_key, gumbel_key, codebook_key = jax.random.split(
      jax.random.fold_in(root_key, state.step), 3
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
    choice = {}
    if config.quantizer.kind == "adaptive":
      choice["temperature"] = temperature(state.step)

    def compute_loss(params):
      result, updated = model.apply(
        {"params": params, "codebook": state.codebook},
        images,
        train=True,
        mutable=["codebook"],
        rngs={"gumbel": gumbel_key, "codebook": codebook_key},
        **choice,
      )
      return result.loss, (result, updated["codebook"])

    (loss, (result, codebook)), gradient = jax.value_and_grad(
      compute_loss, has_aux=True
    )(state.params)
    gradient, loss, mse, quantizer_loss = jax.lax.pmean(
      (gradient, loss, result.mse, result.quantized.loss), AXIS
    )
    updates, opt_state = optimizer.update(
      gradient, state.opt_state, state.params
    )
    new_state = TrainState(
      step=state.step + 1,
      params=optax.apply_updates(state.params, updates),
      codebook=codebook,
      opt_state=opt_state,
    )
    is_finite = jnp.isfinite(loss) & jnp.isfinite(optax.global_norm(gradient))
    new_state = jax.tree.map(
      functools.partial(jnp.where, is_finite), new_state, state
    )
    return new_state, {
      "step": state.step + 1,
      "is_finite": is_finite,
      "loss": loss,
      "mse": mse,
      "quantizer_loss": quantizer_loss,
      **choice,
      **result.quantized.metrics,
    }

  def train_steps(state: TrainState, *batches: jax.Array):
    if len(batches) == 1:
      # A CPU computes convolutions many times slower inside a loop.
      return train_step(state, *batches)

    def go_on(carry, images: jax.Array):
      state, is_finite = carry
      new_state, metrics = train_step(state, images)
      new_state = jax.tree.map(
        functools.partial(jnp.where, is_finite), new_state, state
      )
      is_finite &= metrics["is_finite"]
      return (new_state, is_finite), {**metrics, "is_finite": is_finite}

    (state, is_finite), metrics = jax.lax.scan(
      go_on, (state, jnp.array(True)), jnp.stack(batches)
    )
    last = jnp.where(
      is_finite, len(batches) - 1, jnp.argmin(metrics["is_finite"])
    )
    return state, jax.tree.map(lambda values: values[last], metrics)

  return jax.pmap(
    train_steps, axis_name=AXIS, devices=devices, donate_argnums=0
  )


def _check_finite(
  workdir: pathlib.Path, metrics: dict[str, jax.Array] | None
) -> None:
  """Raises a UserError if the step that gave the metrics was not finite."""
  if metrics is None or unreplicate(metrics["is_finite"]):
    return
  values = jax.device_get(unreplicate(metrics))
  terms = ", ".join(
    f"{name} {float(values[name]):.6g}"
    for name in ("loss", "mse", "quantizer_loss")
  )
  raise UserError(
    f"loss or gradient is not finite at step {int(values['step'])} ({terms});"
    " checkpoints in"
    f" {workdir} are from before it; start anew, with a smaller"
    " config.learning_rate for one"
  )
