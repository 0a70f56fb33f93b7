"""Training, readable top to bottom from `train_and_evaluate`."""

import contextlib
import pathlib
import time
from typing import Any

from clu import parameter_overview
import jax
import ml_collections

from experiments import checkpoint
from experiments import data
from experiments import hosts
from experiments import report
from experiments import settings
from experiments import signals
from experiments import summary as summary_lib
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
from experiments.summary import read_summary


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
  finished = read_summary(workdir)
  if finished and finished["steps"] >= config.num_steps:
    print(
      f"{workdir} holds a finished run of {finished['steps']} steps;"
      " extend it with a larger --config.num_steps, or name another"
      " directory with --workdir=DIR"
    )
    return finished
  _check_goes_on(workdir, config)
  with (
    signals.stop_request(
      "stopping after this step, and saving it; another Ctrl-C stops at once",
      or_unread=True,
    ) as stop,
    _claim(workdir, config) as claim,
  ):
    stop.at_once = True  # but between steps, where something may be lost
    try:
      hosts.from_main(lambda: checkpoint.check_own(workdir))
      return _train(config, workdir, stop, claim)
    except KeyboardInterrupt as interrupt:
      raise StoppedError(
        f"at once, by {stop.name}; what {workdir} holds stands: go on with the"
        " same command"
      ) from interrupt
    except (OSError, UserError) as error:
      claim.check()  # what else went wrong may only follow from that
      if isinstance(error, UserError):
        raise
      raise UserError(
        f"the run in {workdir} cannot go on ({one_line(error)}); put that"
        " right, and go on with the same command"
      ) from error


def _check_goes_on(
  workdir: pathlib.Path, config: ml_collections.ConfigDict
) -> None:
  """Refuses what cannot go on, and says of what goes on what is to be said."""
  found = summary_lib.read(workdir)
  has_ended = found.figures or (found.problem and not found.is_foreign)
  if has_ended and not workdirs.steps_of(workdir):
    known = f" of {found.figures['steps']} steps" if found.figures else ""
    why = f" ({found.problem})" if found.problem else ""
    raise UserError(
      f"{workdir} holds a finished run{known} without its checkpoints, from"
      f" which to go on to {config.num_steps}{why}; name another directory"
      " with --workdir=DIR"
    )
  if found.problem:
    print(f"{found.problem}: left out")
  for change in workdirs.rounding_changes(workdir, config):
    print(
      f"Changed on this resume: config.{change}; steps from here on are the"
      " same within rounding, not to the bit"
    )


def _claim(
  workdir: pathlib.Path, config: ml_collections.ConfigDict
) -> contextlib.AbstractContextManager[workdirs.Claim]:
  if not hosts.is_main():
    return contextlib.nullcontext(workdirs.Claim(workdir))
  return workdirs.claim(workdir, config)


def _train(
  config: ml_collections.ConfigDict,
  workdir: pathlib.Path,
  stop: signals.StopRequest,
  claim: workdirs.Claim,
) -> dict[str, Any]:
  model = settings.create_model(config, axis_name=AXIS)
  devices = choose_devices(config.batch_size, model.sharded_size)
  everywhere = of_all_processes(devices)
  with hosts.main_first("data"):
    splits = data.load(config)
  settings.check_batch(config, len(splits["train"]))
  template = make_template(config, model)
  # Of several processes all must go by the same path.
  is_alone = jax.process_count() == 1
  checkpoints = Checkpoints(
    workdir, template, claim.steady_path if is_alone else None
  )
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
  check_replicas = make_replica_check(model, everywhere)
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
        claim.check()
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
      if not (to_log or to_evaluate or to_save):
        continue
      guard.check(metrics)
      unchecked = None
      claim.check()
      if to_log:
        values = jax.device_get(unreplicate(metrics))
        del values["step"]
        values["num_nonfinite"] = values.pop("is_nonfinite").sum()
        speed = progress.measure(step)
        log.write(step, "train", {**values, **speed})
      figures = None
      with progress.pause():
        if to_evaluate:
          result = evaluator.evaluate(state.variables, splits["validation"])
          figures = describe(config, result, splits["validation"])
          log.write(step, "validation", report.loggable(figures))
        if to_evaluate or to_save:
          claim.check()
          checkpoints.save(
            to_host(state, model.sharded_size > 0),
            time.perf_counter() - started,
            figures and figures["mse"],
          )
        # All is saved before something is said, whatever that may lead to.
        if to_log:
          progress.report(
            step, float(values["loss"]), speed["steps_per_second"]
          )
        if to_evaluate:
          progress.say(report.one_line(step, figures))
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
  summary = report.finish(config, claim, state, evaluator, splits, result, run)
  hosts.barrier("finished")  # Or those that draw no pictures would be missed.
  return summary
