"""Writes what a run leaves behind when it is done."""

from collections.abc import Mapping
import pathlib
import subprocess
from typing import Any

import ml_collections

from adq_jax.streams import choice_of
from experiments.data.split import Split
from experiments.evaluation import pictures
from experiments.evaluation import wording
from experiments.evaluation.evaluator import Evaluation
from experiments.evaluation.evaluator import Evaluator
from experiments.evaluation.examples import find_examples
from experiments.evaluation.judgement import judge
from experiments.model.state import TrainState
from experiments.processes import hosts
from experiments.runs import claims
from experiments.runs import frequencies
from experiments.runs import run_identity
from experiments.runs.summary import RESULTS_VERSION
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
  judged = judge(config, evaluator, state.variables, splits, validation)
  summary = {
    "name": config.name,
    "variant": config.variant,
    "version": RESULTS_VERSION,
    "commit": _commit(),
    **run,
    **judged.figures,
    **run_identity.as_field(claim.workdir),
  }
  try:
    claim.check()
    draw_pictures(
      config,
      claim.workdir,
      evaluator,
      judged.variables,
      splits["validation"],
      judged.found,
    )
    if hosts.is_main():
      if judged.found is not None:
        frequencies.keep(claim.workdir, run["steps"], judged.found)
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
