"""Training, readable top to bottom from `train_and_evaluate`."""

import contextlib
import pathlib
import time
from typing import Any

from clu import parameter_overview
import jax
import ml_collections

from experiments import data
from experiments import hosts
from experiments import report
from experiments import settings
from experiments import signals
from experiments import workdir as workdirs
from experiments.checkpoints import Checkpoints
from experiments.checkpoints import make_template
from experiments.data import pipeline
from experiments.devices import AXIS
from experiments.devices import choose_devices
from experiments.devices import of_all_processes
from experiments.devices import prefetch
from experiments.devices import unreplicate
from experiments.errors import one_line
from experiments.errors import StoppedError
from experiments.errors import UserError
from experiments.evaluate import describe
from experiments.evaluate import Evaluator
from experiments.logging import MetricLog
from experiments.logging import Progress
from experiments.nonfinite import Guard
from experiments.state import create_on_devices
from experiments.state import to_devices
from experiments.state import to_host
from experiments.step import make_gradient_gap
from experiments.step import make_replica_check
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
    UserError: for bad input, before any work starts; for a loss that is not
      finite; if files cannot be written.  A StoppedError after SIGTERM or
      Ctrl-C.
  """
  workdir = pathlib.Path(workdir)
  settings.check(config)
  # Before the claim, which writes the config.
  workdirs.check_same_run(workdir, config)
  finished = report.read_summary(workdir)
  if finished and finished["steps"] >= config.num_steps:
    print(
      f"{workdir} holds a finished run of {finished['steps']} steps;"
      " extend it with a larger --config.num_steps, or name another"
      " directory with --workdir=DIR"
    )
    return finished
  if finished and not (workdir / workdirs.CHECKPOINTS).exists():
    raise UserError(
      f"{workdir} holds a finished run of {finished['steps']} steps without"
      f" its checkpoints, from which to go on to {config.num_steps}; name"
      " another directory with --workdir=DIR"
    )
  with (
    signals.stop_request(
      "stopping after this step, and saving it; another Ctrl-C stops at once"
    ) as stop,
    _claim(workdir, config),
  ):
    stop.at_once = True  # but between steps, where something may be lost
    try:
      return _train(config, workdir, stop)
    except KeyboardInterrupt as interrupt:
      raise StoppedError(
        f"at once, by {stop.name}; what {workdir} holds stands: go on with the"
        " same command"
      ) from interrupt
    except OSError as error:
      raise UserError(
        f"the run in {workdir} cannot go on ({one_line(error)}); put that"
        " right, and go on with the same command"
      ) from error


def _claim(
  workdir: pathlib.Path, config: ml_collections.ConfigDict
) -> contextlib.AbstractContextManager[None]:
  if not hosts.is_main():
    return contextlib.nullcontext()
  return workdirs.claim(workdir, config)


def _train(
  config: ml_collections.ConfigDict,
  workdir: pathlib.Path,
  stop: signals.StopRequest,
) -> dict[str, Any]:
  devices = choose_devices(config.batch_size, settings.sharded_size(config))
  everywhere = of_all_processes(devices)
  with hosts.main_first("data"):
    splits = data.load(config)
  settings.check_batch(config, len(splits["train"]))
  model = settings.create_model(config, axis_name=AXIS)
  template = make_template(config, model)
  checkpoints = Checkpoints(workdir, template)
  seconds, step = 0.0, 0
  if checkpoints.latest is not None:
    saved, seconds = checkpoints.latest.state, checkpoints.latest.seconds
    step, state = int(saved.step), to_devices(saved, devices)
    print(f"Resuming {workdir} at step {step}")
  else:
    state = create_on_devices(config, model, devices)
    print(
      parameter_overview.get_parameter_overview(
        template.variables, include_stats=False
      )
    )
  log = MetricLog(workdir, step)
  progress = Progress(config.num_steps, step, config.batch_size)
  train_step = make_train_step(config, model, everywhere)
  gradient_gap = make_gradient_gap(config, model, everywhere)
  check_replicas = make_replica_check(config, everywhere)
  evaluator = Evaluator(config, model, devices)
  batches = pipeline.TrainBatches(
    splits["train"].images,
    seed=config.seed,
    batch_size=config.batch_size,
    num_steps=config.num_steps,
    process_index=jax.process_index(),
    process_count=jax.process_count(),
  )
  batches = prefetch(
    pipeline.iterate(batches, first=step), devices, config.steps_per_call
  )
  started = time.perf_counter() - seconds
  guard = Guard(config, workdir)
  unchecked, result, is_stopping = None, None, False

  try:
    stop.at_once = False
    while step < config.num_steps and not is_stopping:
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
      if config.check_replicas:
        check_replicas(state)
      # The device computes these steps while the host looks at those before.
      guard.check(unchecked)
      unchecked = metrics
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
      # Of several processes all must be asked, which waits for the step.
      if to_log or jax.process_count() == 1:
        is_stopping = hosts.any_process(stop.name is not None)
      to_save |= is_stopping
      if to_log or to_evaluate or to_save:
        guard.check(metrics)
        unchecked = None
      if to_log:
        values = jax.device_get(unreplicate(metrics))
        del values["step"]
        values["num_nonfinite"] = values.pop("is_nonfinite").sum()
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
          to_host(state, config.quantizer.shard_codebook),
          time.perf_counter() - started,
          figures and figures["mse"],
        )
    checkpoints.wait()
    if is_stopping:
      raise StoppedError(
        f"by {stop.name or 'another process'} after step {step} of"
        f" {config.num_steps}, saved in {workdir}; go on with the same command"
      )
    stop.at_once = True
  finally:
    progress.close()
    log.close()
    checkpoints.close()
  run = {
    "steps": step,
    "seconds": round(time.perf_counter() - started, 1),
    "devices": f"{len(everywhere)} x {devices[0].device_kind}",
  }
  summary = report.finish(
    config, workdir, state, evaluator, splits, result, run
  )
  hosts.barrier("finished")  # Or those that draw no pictures would be missed.
  return summary
