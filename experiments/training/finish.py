"""Writes what a run leaves behind when it is done."""

from collections.abc import Mapping
import importlib.metadata
import pathlib
import subprocess
from typing import Any

import ml_collections

from adq_jax.streams import choice_of
from experiments.data.split import Split
from experiments.evaluation import pictures
from experiments.evaluation import rate_curve
from experiments.evaluation import wording
from experiments.evaluation.all_figures import all_figures
from experiments.evaluation.all_figures import evaluate_reference
from experiments.evaluation.evaluator import Evaluation
from experiments.evaluation.evaluator import Evaluator
from experiments.evaluation.examples import find_examples
from experiments.model.state import TrainState
from experiments.processes import hosts
from experiments.runs import claims
from experiments.runs import frequencies
from experiments.runs import run_identity
from experiments.runs.summary import write_summary


def finish(
  config: ml_collections.ConfigDict,
  claim: claims.Claim,
  state: TrainState,
  evaluator: Evaluator,
  splits: Mapping[str, Split],
  validation: Evaluation | None,
  run: Mapping[str, Any],
) -> dict[str, Any]:
  """Writes frequencies, pictures and summary.json, and prints the outcome.

  Args:
    config: the config of the run.
    claim: the claim of its directory.
    state: the state after its last step, replicated.
    evaluator: the evaluator of its model.
    splits: "train" and "validation".
    validation: the evaluation of this state; None if there was none.
    run: more fields of the summary.

  Returns:
    The content of summary.json.
  """
  found = rate_curve.find_frequencies(
    config, evaluator, state.variables, splits
  )
  variables = rate_curve.with_frequencies(state.variables, evaluator, found)
  reference = evaluate_reference(config, evaluator, variables, splits)
  known = validation if found is None else None
  figures = all_figures(config, evaluator, variables, splits, known, reference)
  if found is not None:
    points = rate_curve.measure(config, evaluator, variables, splits, found)
    figures["curve"] = points
  elif reference is not None and reference.streams:
    found = frequencies.of_counts(reference.symbols, [reference.counts])
  summary = {
    "name": config.name,
    "variant": config.variant,
    "version": importlib.metadata.version("adq_jax"),
    "commit": _commit(),
    **run,
    **figures,
    **run_identity.as_field(claim.workdir),
  }
  try:
    claim.check()
    draw_pictures(
      config,
      claim.workdir,
      evaluator,
      variables,
      splits["validation"],
      found,
    )
    if hosts.is_main():
      if found is not None:
        frequencies.keep(claim.workdir, run["steps"], found)
      # Last of all: it says that the run is finished.
      write_summary(claim.workdir, summary)
  finally:  # also where it cannot be saved
    print(wording.outcome(claim.workdir, summary))
  return summary


def _commit() -> str | None:
  """Returns the commit of this checkout, with "-dirty" if files differ from it.

  Returns None outside of a checkout, or without git.
  """
  here = pathlib.Path(__file__).parent
  command = ["git", "-C", str(here), "describe", "--always", "--dirty"]
  try:
    result = subprocess.run(command, capture_output=True, text=True, check=True)
  except (OSError, subprocess.CalledProcessError):
    return None
  return result.stdout.strip()


def draw_pictures(
  config: ml_collections.ConfigDict,
  workdir: pathlib.Path,
  evaluator: Evaluator,
  variables: Any,
  validation: Split,
  found: frequencies.Frequencies | None = None,
) -> None:
  """Draws reconstructions.png, and for a model with a choice selection.png.

  All processes compute the images; only the main process draws them.
  """
  shown = find_examples(config, evaluator, variables, validation, found)
  if not hosts.is_main():
    return
  model = evaluator.model
  stream = None
  if shown.choice is not None:
    stream = model.streams[choice_of(model.streams)]
  pictures.draw_reconstructions(
    workdir / "reconstructions.png",
    shown.rows,
    shown.choice,
    stream,
    shown.bits,
  )
  if stream is not None:
    pictures.draw_selection(workdir / "selection.png", stream, model.draws)
