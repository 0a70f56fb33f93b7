"""Sets up a run: its data, programs, checkpoints and log."""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import pathlib
import time

from clu import parameter_overview
import jax
import ml_collections

from adq_jax import VQVAE
from experiments import data
from experiments.data.split import Split
from experiments.evaluation.evaluator import Evaluation
from experiments.evaluation.evaluator import Evaluator
from experiments.model import build
from experiments.model import check
from experiments.model.programs import make_programs
from experiments.model.programs import Programs
from experiments.model.state import create_on_devices
from experiments.model.state import to_devices
from experiments.model.state import TrainState
from experiments.processes import hosts
from experiments.processes.devices import AXIS
from experiments.processes.devices import choose_devices
from experiments.processes.devices import of_all_processes
from experiments.runs import claims
from experiments.runs.checkpoints import Checkpoints
from experiments.runs.checkpoints import make_template
from experiments.training.metric_writer import MetricLog
from experiments.training.nonfinite import Guard
from experiments.training.progress import Progress


@dataclasses.dataclass(frozen=True)
class Run:
  """The parts of a run that trains.

  Attributes:
    config: the checked config.
    claim: the claim of the run's directory.
    model: the model, with `AXIS` for its axis_name.
    devices: the devices of this process.
    splits: "train" and "validation".
    programs: the programs that run on the devices.
    evaluator: the evaluator of the model.
    checkpoints: the checkpoints of the run.
    log: metrics.jsonl and TensorBoard's events.
    progress: the progress bar.
    guard: watches for losses that are not finite.
    started: the time at which the run would have started without interruptions.
  """

  config: ml_collections.ConfigDict
  claim: claims.Claim
  model: VQVAE
  devices: Sequence[jax.Device]
  splits: Mapping[str, Split]
  programs: Programs
  evaluator: Evaluator
  checkpoints: Checkpoints
  log: MetricLog
  progress: Progress
  guard: Guard
  started: float

  @property
  def seconds(self) -> float:
    """The time that it has trained for."""
    return time.perf_counter() - self.started


@dataclasses.dataclass(frozen=True)
class Reached:
  """How far a run has come.

  Attributes:
    step: the number of steps done.
    state: the state after them, replicated.
    validation: the evaluation of this state; None if there was none.
    is_stopping: whether the run was asked to stop.
  """

  step: int
  state: TrainState
  validation: Evaluation | None = None
  is_stopping: bool = False


def set_up(
  config: ml_collections.ConfigDict,
  workdir: pathlib.Path,
  claim: claims.Claim,
) -> tuple[Run, Reached]:
  """Loads the data, and the latest checkpoint or a state to start from.

  Args:
    config: the checked config.
    workdir: the directory of the run.
    claim: the claim of this directory.

  Returns:
    The run, and the point from which it goes on.

  Raises:
    UserError: if the data or the checkpoints cannot be used.
  """
  model = build.create_model(config, axis_name=AXIS)
  devices = choose_devices(config.batch_size, model.sharded_size)
  with hosts.main_first("data"):
    splits = data.load(config)
  check.check_batch(config, len(splits["train"]))
  template = make_template(config, model)
  # Several processes must all use the same path.
  is_alone = jax.process_count() == 1
  checkpoints = Checkpoints(
    workdir, template, claim.steady_path if is_alone else None
  )
  seconds = 0.0
  if checkpoints.latest is not None:
    saved, seconds = checkpoints.latest.state, checkpoints.latest.seconds
    start = Reached(int(saved.step), to_devices(saved, devices))
    print(f"Resuming {workdir} at step {start.step}")
  else:
    start = Reached(0, create_on_devices(config, model, devices))
    print(
      parameter_overview.get_parameter_overview(
        template.variables, include_stats=False
      )
    )
  run = Run(
    config=config,
    claim=claim,
    model=model,
    devices=devices,
    splits=splits,
    programs=make_programs(config, model, of_all_processes(devices)),
    evaluator=Evaluator(config, model, devices),
    checkpoints=checkpoints,
    log=MetricLog(workdir, start.step),
    progress=Progress(config.num_steps, start.step, config.batch_size),
    guard=Guard(config, workdir),
    started=time.perf_counter() - seconds,
  )
  return run, start
