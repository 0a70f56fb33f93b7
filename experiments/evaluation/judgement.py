"""What a trained state is worth: all its figures, and what belongs to them."""

from collections.abc import Mapping
import dataclasses
from typing import Any

import ml_collections

from experiments.data.split import Split
from experiments.evaluation import rate_curve
from experiments.evaluation.all_figures import all_figures
from experiments.evaluation.all_figures import evaluate_reference
from experiments.evaluation.evaluator import Evaluation
from experiments.evaluation.evaluator import Evaluator
from experiments.runs import frequencies
from experiments.runs.frequencies import Frequencies


@dataclasses.dataclass(frozen=True)
class Judgement:
  """The figures of a trained state.

  Attributes:
    figures: those of `all_figures`, and the `curve` of a model that was trained
      for a range of prices.
    found: the frequencies of its codes; None where there are none.
    variables: those that it was judged with, replicated.
  """

  figures: dict[str, Any]
  found: Frequencies | None
  variables: Any


def judge(
  config: ml_collections.ConfigDict,
  evaluator: Evaluator,
  variables: Any,
  splits: Mapping[str, Split],
  validation: Evaluation | None = None,
) -> Judgement:
  """Returns all figures of a trained state.

  Args:
    config: the config of the run.
    evaluator: the evaluator of its model.
    variables: those of the model, replicated.
    splits: "train" and "validation".
    validation: the evaluation of this state; None if there was none.
  """
  found = rate_curve.find_frequencies(config, evaluator, variables, splits)
  if found is not None:
    variables = rate_curve.with_frequencies(variables, evaluator, found)
    validation = None  # its choice was by other frequencies
  reference = evaluate_reference(config, evaluator, variables, splits)
  figures = all_figures(
    config, evaluator, variables, splits, validation, reference
  )
  if found is not None:
    points = rate_curve.measure(config, evaluator, variables, splits, found)
    figures["curve"] = points
  elif reference is not None and reference.streams:
    found = frequencies.of_counts(reference.symbols, [reference.counts])
  return Judgement(figures, found, variables)
