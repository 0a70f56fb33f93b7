"""All figures of a trained state."""

from collections.abc import Mapping
from typing import Any

import ml_collections

from experiments.data.split import Split
from experiments.evaluation.baselines import baselines
from experiments.evaluation.evaluator import Evaluation
from experiments.evaluation.evaluator import Evaluator
from experiments.evaluation.figures_of_merit import describe
from experiments.evaluation.figures_of_merit import describe_coded_rate
from experiments.evaluation.first_batch import first_batch_loss
from experiments.evaluation.image_bits import describe_image_bits
from experiments.evaluation.similarity import mean_ssim


def all_figures(
  config: ml_collections.ConfigDict,
  evaluator: Evaluator,
  variables: Any,
  splits: Mapping[str, Split],
  result: Evaluation | None = None,
  reference: Evaluation | None = None,
) -> dict[str, Any]:
  """Returns every figure of a trained model.

  These are the figures of `describe`, the coded rate, the loss as the authors
  evaluate (`first_batch_loss`), SSIM, the bits of images, and the baselines.
  A model that can sample its codes is evaluated in both ways; the figures of
  the way that the config does not ask for are under `drawn` (sampled codes) or
  `not_drawn` (the most probable ones).

  Args:
    config: the config of the run.
    evaluator: the evaluator of its model.
    variables: those of the model, replicated.
    splits: "train" and "validation".
    result: the evaluation of the validation split, where it is known already.
    reference: the result of `evaluate_reference`, where it is known already.
  """
  validation = splits["validation"]
  if result is None:
    result = evaluator.evaluate(variables, validation)
  figures = describe(config, result, validation)
  if reference is None:
    reference = evaluate_reference(config, evaluator, variables, splits)
  if reference is not None:
    figures |= describe_coded_rate(config, result, reference)
  if result.streams:
    codes = evaluator.codes(variables, validation)
    figures |= describe_image_bits(result, reference, codes)
  if evaluator.model.draws:
    draw = not evaluator.draws_by_default
    other = evaluator.evaluate(variables, validation, draw=draw)
    name = "drawn" if draw else "not_drawn"
    figures[name] = describe(config, other, validation)
  figures["recon_loss_first_batch"] = first_batch_loss(
    config, evaluator, variables, validation, result
  )
  figures["ssim"] = mean_ssim(config, evaluator, variables, validation)
  figures["baselines"] = baselines(config, validation)
  return figures


def evaluate_reference(
  config: ml_collections.ConfigDict,
  evaluator: Evaluator,
  variables: Any,
  splits: Mapping[str, Split],
) -> Evaluation | None:
  """Returns the evaluation that the coded rate takes the frequencies of.

  It is of `config.rate_examples` images of the training split; None where these
  are 0.  The arguments are those of `all_figures`.
  """
  if not config.rate_examples:
    return None
  sample = splits["train"].subsample(config.rate_examples)
  return evaluator.evaluate(variables, sample)
