"""What a run leaves behind when it is done, and what it says."""

from collections.abc import Mapping
import importlib.metadata
import json
import pathlib
import subprocess
from typing import Any

import jax
import ml_collections
import numpy as np

from adq_jax.streams import choice_of
from experiments import data
from experiments import files
from experiments import notation
from experiments.data import augment
from experiments.data.split import Split
from experiments.errors import UserError
from experiments.evaluation import pictures
from experiments.evaluation.baselines import baselines
from experiments.evaluation.evaluator import Evaluation
from experiments.evaluation.evaluator import Evaluator
from experiments.evaluation.figures_of_merit import describe
from experiments.evaluation.figures_of_merit import describe_coded_rate
from experiments.model import build
from experiments.model import check
from experiments.model.state import to_devices
from experiments.model.state import TrainState
from experiments.processes import hosts
from experiments.processes.devices import AXIS
from experiments.processes.devices import choose_devices
from experiments.runs import workdir as workdirs
from experiments.runs.checkpoints import read_state
from experiments.runs.summary import write_summary

_SHOWN = 16  # images in reconstructions.png


def finish(
  config: ml_collections.ConfigDict,
  claim: workdirs.Claim,
  state: TrainState,
  evaluator: Evaluator,
  splits: Mapping[str, Split],
  validation: Evaluation | None,
  run: Mapping[str, Any],
) -> dict[str, Any]:
  """Draws the pictures, writes summary.json and prints the outcome.

  Args:
    config: of the run.
    claim: of its directory.
    state: at its last step, replicated.
    evaluator: of its model.
    splits: "train" and "validation".
    validation: what evaluating the state has given; None if it has not been.
    run: more for the summary.

  Returns:
    What is in summary.json.
  """
  summary = {
    "name": config.name,
    "variant": config.variant,
    "version": importlib.metadata.version("adq_jax"),
    "commit": _commit(),
    **run,
    **evaluate_fully(config, evaluator, state, splits, validation),
    **workdirs.known_identity(claim.workdir),
  }
  try:
    claim.check()
    draw_pictures(config, claim.workdir, evaluator, state, splits["validation"])
    if hosts.is_main():
      # Last of all: it says that the run is finished.
      write_summary(claim.workdir, summary)
  finally:  # also where it cannot be saved
    print(outcome(claim.workdir, summary))
  return summary


def _commit() -> str | None:
  """The commit of this checkout, with "-dirty" if files differ from it.

  None outside of a checkout, or without git.
  """
  here = pathlib.Path(__file__).parent
  command = ["git", "-C", str(here), "describe", "--always", "--dirty"]
  try:
    result = subprocess.run(command, capture_output=True, text=True, check=True)
  except (OSError, subprocess.CalledProcessError):
    return None
  return result.stdout.strip()


def evaluate_run(
  config: ml_collections.ConfigDict, workdir: str | pathlib.Path
) -> dict[str, Any]:
  """Evaluates a run's latest checkpoint, and writes evaluation.json.

  Args:
    config: of the run.
    workdir: of the run.

  Returns:
    What is in evaluation.json: the figures of summary.json.

  Raises:
    UserError: for bad input.
  """
  workdir = pathlib.Path(workdir)
  check.check(config)
  workdirs.check_same_run(workdir, config)
  step = None  # the latest
  if jax.process_count() > 1:
    # None of them may see another checkpoint than the main one.
    step = hosts.from_main(lambda: int(read_state(config, workdir).step))
  state = read_state(config, workdir, step)
  step = int(state.step)
  model = build.create_model(config, AXIS)
  devices = choose_devices(config.batch_size, model.sharded_size)
  evaluator = Evaluator(config, model, devices)
  state = to_devices(state, devices)
  with hosts.main_first("data"):
    splits = data.load(config)
  figures = {
    "steps": step,
    **evaluate_fully(config, evaluator, state, splits),
    **workdirs.known_identity(workdir),
  }
  print(one_line(step, figures))
  if hosts.is_main():
    _keep_evaluation(workdir / workdirs.EVALUATION, figures)
  return figures


def _keep_evaluation(path: pathlib.Path, figures: Mapping[str, Any]) -> None:
  """Writes evaluation.json; where that cannot be, shows what it would hold."""
  try:
    with files.writing(path):
      problem = _problem_of_evaluation(path)
      if problem:
        print(f"{problem}: now {workdirs.move_aside(path.parent, path)}")
      workdirs.write_json(path, figures)
  except UserError:
    print(json.dumps(figures, indent=2))
    raise
  print(f"figures: {path}")


def _problem_of_evaluation(path: pathlib.Path) -> str:
  """Returns why evaluation.json is not the run's own, "" if it is or is new."""
  try:
    found = files.read_json(path)
  except FileNotFoundError:
    return ""
  except files.UnreadableError as error:
    return str(error)
  run_id = found.get(workdirs.RUN_ID) if isinstance(found, dict) else None
  is_own = workdirs.is_own(run_id, workdirs.identity(path.parent))
  return "" if is_own else f"{path} is of another run, {run_id}"


def evaluate_fully(
  config: ml_collections.ConfigDict,
  evaluator: Evaluator,
  state: TrainState,
  splits: Mapping[str, Split],
  result: Evaluation | None = None,
) -> dict[str, Any]:
  """Returns every figure of a replicated state.

  Those of `describe`, the coded rate, for a model that can draw its codes the
  same with drawn ones (`drawn`) and with the most probable ones (`not_drawn`),
  whichever the config does not ask for, and the baselines.
  `result` is that of the validation split, where it is known.
  """
  variables, validation = state.variables, splits["validation"]
  if result is None:
    result = evaluator.evaluate(variables, validation)
  figures = describe(config, result, validation)
  if config.rate_examples:
    sample = splits["train"].spread(config.rate_examples)
    reference = evaluator.evaluate(variables, sample)
    figures |= describe_coded_rate(config, result, reference)
  if evaluator.model.draws:
    draw = not evaluator.draws_by_default
    other = evaluator.evaluate(variables, validation, draw=draw)
    name = "drawn" if draw else "not_drawn"
    figures[name] = describe(config, other, validation)
  figures["baselines"] = baselines(config, validation)
  return figures


def draw_pictures(
  config: ml_collections.ConfigDict,
  workdir: pathlib.Path,
  evaluator: Evaluator,
  state: TrainState,
  validation: Split,
) -> None:
  """Draws reconstructions.png and, where positions choose, selection.png.

  All processes compute them; the main one draws.
  """
  shown = validation.spread(_SHOWN)
  images, choice = evaluator.reconstruct(state.variables, shown)
  if not hosts.is_main():
    return
  model = evaluator.model
  stream = None if choice is None else model.streams[choice_of(model.streams)]
  pictures.draw_reconstructions(
    workdir / "reconstructions.png",
    augment.crop_centre(
      shown.images[np.arange(len(shown))], config.data.image_size
    ),
    np.asarray(augment.to_uint8(images)),
    choice,
    stream,
  )
  if stream is not None:
    pictures.draw_selection(workdir / "selection.png", stream, model.draws)


def loggable(figures: Mapping[str, Any]) -> dict[str, Any]:
  """Flattens an evaluation's figures to scalars and vectors by name."""
  flat = {k: v for k, v in figures.items() if isinstance(v, float)}
  for book in figures.get("codebooks", ()):
    for name in ("selection", "usage", "perplexity"):
      key = name if name == "selection" else f"codebook_{name}"
      flat.setdefault(key, []).append(book[name])
  if "codebooks" not in figures:
    for stream in figures.get("streams", ()):
      for name in ("usage", "perplexity"):
        flat[f"{stream['name']}_{name}"] = stream[name]
  for source, value in figures.get("psnr_per_source", {}).items():
    flat[f"psnr_{source}"] = value
  return flat


def one_line(step: int, figures: Mapping[str, Any]) -> str:
  """Returns an evaluation in a line."""
  line = (
    f"step {step}  validation: mse {figures['mse']:.5f}"
    f"  psnr {figures['psnr']:.2f} dB"
    f"  recon_loss_sum {figures['recon_loss_sum']:.4f}"
  )
  if "rate_nominal" in figures:
    line += (
      f"  rate {figures['rate_nominal']:.2f} bits/position"
      f"  usage {figures['usage']:.1%}"
    )
  return line


def outcome(workdir: pathlib.Path, summary: Mapping[str, Any]) -> str:
  """Returns what a person wants to know of a finished run."""
  resize, mean = (
    summary["baselines"][name]["psnr"] for name in ("resize", "mean_color")
  )
  lines = [
    f"{summary['name']} {summary['variant']}: {summary['steps']} steps in"
    f" {summary['seconds']:.0f} s on {summary['devices']}",
    f"  validation psnr {summary['psnr']:.2f} dB ({resize:.2f} for a resize"
    f" down and up, {mean:.2f} for the mean colour)",
    f"  recon_loss_sum {summary['recon_loss_sum']:.4f}"
    f"  mse {summary['mse']:.6f}",
    *_rates(summary),
  ]
  names = [path.name for path in sorted(workdir.glob("*.png"))]
  lines += [
    f"  pictures: {', '.join(str(workdir / name) for name in names)}",
    f"  figures: {workdir / workdirs.SUMMARY}, {workdir / workdirs.METRICS};"
    f" tensorboard --logdir {workdir}",
    f"  model: experiments.runs.checkpoints.load_model({str(workdir)!r})",
  ]
  return "\n".join(lines)


def _rates(summary: Mapping[str, Any]) -> list[str]:
  """What the codes take, and how they are used, line by line."""
  if "rate_nominal" not in summary:
    return ["  rate none: its codes are not finite in number"]
  rate = f"{summary['rate_nominal']:.2f} bits/position"
  if "rate_coded" in summary:
    rate += f", {summary['rate_coded']:.2f} entropy-coded"
  lines = [
    f"  rate {rate} ({summary['rate_nominal_per_pixel']:.3f} bits/pixel)"
  ]
  if "codebooks" in summary:
    lines.append("  codebook      chosen   codewords used")
    rows = [
      (notation.structure_name(book["structure"]), book["selection"], book)
      for book in summary["codebooks"]
    ]
  else:
    lines.append("  stream          sent       codes used")
    rows = [(s["title"], s["sent"], s) for s in summary["streams"]]
  return lines + [
    f"  {title:<12}{share:8.1%}{figures['usage']:12.1%}"
    for title, share, figures in rows
  ]
