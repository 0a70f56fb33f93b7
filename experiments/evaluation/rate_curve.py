"""The rate-distortion curve of a model with a price.

Codes depend on how frequent they are, and frequencies depend on the codes.  So
the frequencies for a price come from the classical iteration of entropy-
constrained quantization (Chou, Lookabaugh and Gray, 1989): encode, count, and
encode again.
"""

from collections.abc import Mapping
from typing import Any

import ml_collections

from experiments.data.split import Split
from experiments.evaluation.evaluator import Evaluation
from experiments.evaluation.evaluator import Evaluator
from experiments.evaluation.figures_of_merit import describe
from experiments.model import rate_weights
from experiments.processes.devices import replicate
from experiments.runs import frequencies
from experiments.runs.frequencies import Frequencies

_ROUNDS = 3
_OF_POINT = ("rate_nominal", "recon_loss_sum", "mse", "psnr")


def find_frequencies(
  config: ml_collections.ConfigDict,
  evaluator: Evaluator,
  variables: Any,
  splits: Mapping[str, Split],
) -> Frequencies | None:
  """Returns the frequencies of codes for each price of the config's curve.

  They are those of `config.rate_examples` images of the training split.

  Args:
    config: of the run.
    evaluator: of its model.
    variables: those of the model, replicated.
    splits: "train" and "validation".

  Returns:
    None where training sampled no prices, or there are no such images.
  """
  if not (rate_weights.are_sampled(config) and config.rate_examples):
    return None
  sample = splits["train"].subsample(config.rate_examples)
  prices = rate_weights.on_curve(config)
  for _ in range(_ROUNDS):
    counts = evaluator.count(variables, sample, prices)
    found = frequencies.of_counts(evaluator.symbols, counts, prices)
    variables = with_frequencies(variables, evaluator, found)
  return found


def measure(
  config: ml_collections.ConfigDict,
  evaluator: Evaluator,
  variables: Any,
  splits: Mapping[str, Split],
  found: Frequencies,
) -> list[dict[str, float]]:
  """Returns the points of the curve, by ascending price.

  Args:
    config: of the run.
    evaluator: of its model.
    variables: those of the model, replicated, `with_frequencies`.
    splits: "train" and "validation".
    found: the frequencies.
  """
  validation, points = splits["validation"], []
  for row, price in enumerate(found.prices.tolist()):
    result = evaluator.evaluate(variables, validation, rate_weight=price)
    figures = describe(config, result, validation)
    points.append(
      {"rate_weight": price}
      | {name: figures[name] for name in _OF_POINT}
      | {"rate_coded": coded_rate(result, found, row)}
    )
  return points


def with_frequencies(
  variables: Any, evaluator: Evaluator, found: Frequencies
) -> dict[str, Any]:
  """Returns variables, replicated, with these frequencies for choices."""
  tables = frequencies.with_tables({}, found, evaluator.model)
  return {**variables, **replicate(tables, evaluator.devices)}


def coded_rate(result: Evaluation, found: Frequencies, row: int) -> float:
  """Returns the bits of a position under an entropy code of frequencies.

  Args:
    result: of an evaluation.
    found: the frequencies of the same model.
    row: of the frequencies.
  """
  total = sum(
    frequencies.bits(counts, rows[row])
    for counts, rows in zip(result.counts, found.tables, strict=True)
  )
  return total / result.positions
