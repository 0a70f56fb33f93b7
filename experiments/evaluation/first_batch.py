"""The loss as the authors' code evaluates it."""

from typing import Any

import ml_collections
import numpy as np

from experiments.data.split import Split
from experiments.evaluation.evaluator import Evaluation
from experiments.evaluation.evaluator import Evaluator


def first_batch_loss(
  config: ml_collections.ConfigDict,
  evaluator: Evaluator,
  variables: Any,
  split: Split,
  result: Evaluation,
) -> float:
  """Returns `recon_loss_first_batch`, the loss of a split's first batch.

  The authors' `gumbel.py` takes the first 64 of 10,000 validation images 156
  times, as many full batches as they make, and keeps the mean squared errors;
  Gumbel noise is sampled in each pass, at temperature 1.  So the paper's
  numbers may be of these images alone.

  The figure is in the unit of `recon_loss_sum`, so that both compare with the
  paper's number: the mean of the passes' mean squared errors, times the number
  of batches in the split.  With 10,000 images this is the sum over 156.25
  passes.  Another split of n images has as many passes as full batches of the
  paper's size, or one, of all images, where there is none.

  Args:
    config: the config of the run.
    evaluator: the evaluator of its model.
    variables: those of the model, replicated.
    split: the images.
    result: an evaluation of the split.  The passes over a model that cannot
      sample its codes are all alike, and so are their errors in it.
  """
  size = config.data.paper_batch_size
  errors = result.squared_error[:size]
  if evaluator.model.draws:
    first = np.arange(min(size, len(split)))
    passes = max(len(split) // size, 1)
    # Noise belongs to the place of an image, so each pass has its own.
    repeated = split.select(np.tile(first, passes))
    errors = evaluator.evaluate(variables, repeated, draw=True).squared_error
  return float(errors.mean(dtype=np.float64)) * len(split) / size
