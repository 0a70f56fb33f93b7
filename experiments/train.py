"""Training, readable top to bottom from `train_and_evaluate`."""

import pathlib
import time
from typing import Any

from clu import parameter_overview
import jax
import ml_collections

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
from experiments.state import create_state
from experiments.step import make_gradient_gap
from experiments.step import make_train_step


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
  gradient_gap = make_gradient_gap(config, model, devices)
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
      gap_every = config.gradient_gap_every
      gap_is_due = gap_every > 0 and step % gap_every == 0
      if gap_is_due and config.gradient_gap == "norm":
        gap_step, gap = step + 1, gradient_gap(state, next_batches[0])
      state, metrics = train_step(state, *next_batches)
      if gap_is_due and config.gradient_gap == "mean_absolute":
        gap_step, gap = step + count, gradient_gap(state, next_batches[-1])
      if gap_is_due:
        log.write(gap_step, "train", {"gradient_gap": unreplicate(gap)})
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
