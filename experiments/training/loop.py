"""Training, readable top to bottom from `train_and_evaluate`."""

from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import dataclasses
import pathlib
from typing import Any

import jax
import ml_collections

from experiments.data import pipeline
from experiments.errors import one_line
from experiments.errors import StoppedError
from experiments.errors import UserError
from experiments.evaluation import wording
from experiments.evaluation.evaluator import Evaluation
from experiments.evaluation.figures_of_merit import describe
from experiments.evaluation.figures_of_merit import loggable
from experiments.model import check
from experiments.model.state import to_host
from experiments.model.state import TrainState
from experiments.processes import hosts
from experiments.processes import signals
from experiments.processes.devices import of_all_processes
from experiments.processes.devices import prefetch
from experiments.processes.devices import unreplicate
from experiments.runs import checkpoint_file
from experiments.runs import claims
from experiments.runs import config_changes
from experiments.runs import summary as summary_lib
from experiments.runs import workdir as workdirs
from experiments.runs.summary import read_summary
from experiments.training import finish
from experiments.training.setup import Reached
from experiments.training.setup import Run
from experiments.training.setup import set_up


def train_and_evaluate(
  config: ml_collections.ConfigDict, workdir: str | pathlib.Path
) -> dict[str, Any]:
  """Trains until `config.num_steps`, from the latest checkpoint on.

  Args:
    config: the config of an experiment.
    workdir: the directory of the run; docs/training.md lists its files.

  Returns:
    The content of summary.json.

  Raises:
    UserError: for bad input, before any work starts; for a loss that is not
      finite; if files cannot be written.  A StoppedError after SIGTERM or
      Ctrl-C.
  """
  workdir = pathlib.Path(workdir)
  check.check(config)
  # Before the claim, which writes the config.
  config_changes.check_same_run(workdir, config)
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
      at_once=True,
    ) as stop,
    _claim(workdir, config) as claim,
  ):
    try:
      hosts.from_main(lambda: checkpoint_file.check_own(workdir))
      return _train(config, workdir, stop, claim)
    except KeyboardInterrupt as interrupt:
      raise StoppedError(
        f"at once, by {stop.name}; what {workdir} holds stands: go on with the"
        " same command"
      ) from interrupt
    except (OSError, UserError) as error:
      claim.check()  # a lost directory may be the cause of the error
      if isinstance(error, UserError):
        raise
      raise UserError(
        f"the run in {workdir} cannot go on ({one_line(error)}); put that"
        " right, and go on with the same command"
      ) from error


def _check_goes_on(
  workdir: pathlib.Path, config: ml_collections.ConfigDict
) -> None:
  """Refuses a run that cannot go on, and prints changes of one that can."""
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
  for change in config_changes.rounding_changes(workdir, config):
    print(
      f"Changed on this resume: config.{change}; steps from here on are the"
      " same within rounding, not to the bit"
    )


def _claim(
  workdir: pathlib.Path, config: ml_collections.ConfigDict
) -> contextlib.AbstractContextManager[claims.Claim]:
  if not hosts.is_main():
    return contextlib.nullcontext(claims.Claim(workdir))
  return claims.claim(workdir, config)


def _train(
  config: ml_collections.ConfigDict,
  workdir: pathlib.Path,
  stop: signals.StopRequest,
  claim: claims.Claim,
) -> dict[str, Any]:
  run, start = set_up(config, workdir, claim)
  try:
    with stop.put_off():
      reached = _loop(run, start, stop)
      run.checkpoints.wait()
      if reached.is_stopping:
        raise StoppedError(
          f"by {stop.name or 'another process'} after step {reached.step}"
          f" of {config.num_steps}, saved in {workdir}; go on with the same"
          " command"
        )
  finally:
    run.progress.close()
    run.log.close()
    run.checkpoints.close()
  return _finish(run, reached)


def _loop(run: Run, start: Reached, stop: signals.StopRequest) -> Reached:
  """Trains to the last step, or until asked to stop."""
  config, step, state = run.config, start.step, start.state
  batches = _batches(run, step)
  unchecked, validation, is_stopping = None, None, False
  while step < config.num_steps and not is_stopping:
    # Up to the next multiple, where logs and checkpoints are due.
    count = config.steps_per_call - step % config.steps_per_call
    count = min(count, config.num_steps - step)
    with run.progress.waiting():
      next_batches = [next(batches) for _ in range(count)]
    state, metrics = _take_steps(run, step, state, next_batches)
    # The host checks the previous steps while the device computes these.
    run.guard.check(unchecked)
    unchecked = metrics
    step += count
    run.progress.advance(count)
    due = _what_is_due(config, step)
    # Asking several processes waits for the step, so it is done rarely.
    if due.log or jax.process_count() == 1:
      is_stopping = hosts.any_process(stop.name is not None)
    due = dataclasses.replace(due, save=due.save or is_stopping)
    if due.log or due.evaluate or due.save:
      run.guard.check(metrics)
      unchecked = None
      validation = _do_what_is_due(run, due, step, state, metrics)
  return Reached(step, state, validation, is_stopping)


def _batches(run: Run, first: int) -> Iterator[jax.Array]:
  """Returns the batches of the steps from `first` on, ahead on the devices."""
  config = run.config
  batches = pipeline.TrainBatches(
    run.splits["train"].images,
    seed=config.seed,
    batch_size=config.batch_size,
    num_steps=config.num_steps,
    process_index=jax.process_index(),
    process_count=jax.process_count(),
  )
  return prefetch(
    pipeline.iterate(batches, first=first), run.devices, config.steps_per_call
  )


def _take_steps(
  run: Run, step: int, state: TrainState, batches: Sequence[jax.Array]
) -> tuple[TrainState, dict[str, jax.Array]]:
  """Calls the training step once; measures the gradient gap where it is due."""
  config, programs = run.config, run.programs
  every = config.gradient_gap_every
  is_due = every > 0 and step % every == 0
  if is_due and config.gradient_gap == "norm":
    gap_step, gap = step + 1, programs.gradient_gap(state, batches[0])
  state, metrics = programs.train_step(state, *batches)
  if is_due and config.gradient_gap == "mean_absolute":
    gap_step = step + len(batches)
    gap = programs.gradient_gap(state, batches[-1])
  if is_due:
    run.claim.check()
    run.log.write(gap_step, "train", {"gradient_gap": unreplicate(gap)})
  if config.check_replicas:
    programs.check_replicas(state)
  return state, metrics


@dataclasses.dataclass(frozen=True)
class _Due:
  """The work that is due between two steps."""

  log: bool
  evaluate: bool
  save: bool


def _what_is_due(config: ml_collections.ConfigDict, step: int) -> _Due:
  def is_due(every: int) -> bool:
    return step == config.num_steps or step % every == 0

  return _Due(
    log=is_due(config.log_every),
    evaluate=is_due(config.eval_every),
    save=is_due(config.checkpoint_every),
  )


def _do_what_is_due(
  run: Run,
  due: _Due,
  step: int,
  state: TrainState,
  metrics: dict[str, jax.Array],
) -> Evaluation | None:
  """Logs, evaluates and saves what is due; returns an evaluation or None."""
  run.claim.check()
  if due.log:
    values = jax.device_get(unreplicate(metrics))
    del values["step"]
    values["num_nonfinite"] = values.pop("is_nonfinite").sum()
    speed = run.progress.measure(step)
    run.log.write(step, "train", {**values, **speed})
  validation = figures = None
  with run.progress.pause():
    if due.evaluate:
      split = run.splits["validation"]
      validation = run.evaluator.evaluate(state.variables, split)
      figures = describe(run.config, validation, split)
      run.log.write(step, "validation", loggable(figures))
    if due.evaluate or due.save:
      run.claim.check()
      run.checkpoints.save(
        to_host(state, run.model.sharded_size > 0),
        run.seconds,
        figures and figures["mse"],
      )
    # Everything is saved before anything is printed, which may fail.
    if due.log:
      run.progress.report(
        step, float(values["loss"]), speed["steps_per_second"]
      )
    if due.evaluate:
      run.progress.say(wording.one_line(step, figures))
  return validation


def _finish(run: Run, reached: Reached) -> dict[str, Any]:
  """Writes the results of a finished run."""
  devices = of_all_processes(run.devices)
  summary = finish.finish(
    run.config,
    run.claim,
    reached.state,
    run.evaluator,
    run.splits,
    reached.validation,
    {
      "steps": reached.step,
      "seconds": round(run.seconds, 1),
      "devices": f"{len(devices)} x {devices[0].device_kind}",
    },
  )
  # Only the main process draws and writes, which takes a while.  The others
  # wait for it: if they ended, JAX would take them for lost, and abort it.
  hosts.barrier("finished")
  return summary
