"""Some images of a split as a model sees them, for the picture of a run."""

from collections.abc import Sequence
import dataclasses
from typing import Any

import ml_collections
import numpy as np

from experiments.data import augment
from experiments.data.split import Split
from experiments.evaluation.evaluator import Evaluator
from experiments.evaluation.image_bits import bits_of_positions
from experiments.runs import frequencies
from experiments.runs.frequencies import Frequencies

_NUMBER = 16


@dataclasses.dataclass(frozen=True)
class Examples:
  """Images, and what a model makes of them.

  Attributes:
    rows: titles, and versions of the n images, uint8 `[n, H, W, C]` each.
    choice: the choice of each position, int32 `[n, h, w]`; None where there is
      no choice.
    bits: the bits of each position, float64 `[n, h, w]`; None of a model
      without a curve.
  """

  rows: Sequence[tuple[str, np.ndarray]]
  choice: np.ndarray | None
  bits: np.ndarray | None = None


def find_examples(
  config: ml_collections.ConfigDict,
  evaluator: Evaluator,
  variables: Any,
  validation: Split,
  found: Frequencies | None,
) -> Examples:
  """Returns images of the validation split, and their reconstructions.

  A model with a curve reconstructs them at its lowest price, the middle one and
  the highest; bits and choice are of the middle.

  Args:
    config: of the run.
    evaluator: of its model.
    variables: those of the model, replicated.
    validation: the split.
    found: the frequencies of a model with a curve, else of one price or None.
  """
  shown = validation.subsample(_NUMBER)
  originals = augment.crop_centre(
    shown.images[np.arange(len(shown))], config.data.image_size
  )
  rows = [("original", originals)]
  if found is None or len(found.prices) == 1:
    images, choice = evaluator.reconstruct(variables, shown)
    rows.append(("reconstruction", np.asarray(augment.to_uint8(images))))
    return Examples(rows, choice)
  tables = frequencies.bits_of(found, evaluator.symbols)
  middle = len(found.prices) // 2
  for row in (0, middle, len(found.prices) - 1):
    price = float(found.prices[row])
    images, choice = evaluator.reconstruct(variables, shown, rate_weight=price)
    codes = evaluator.codes(variables, shown, rate_weight=price)
    bits = bits_of_positions([table[row] for table in tables], codes)
    rate = bits.mean() / config.model.downsampling**2
    title = f"{rate:.2f} bits/pixel"
    rows.append((title, np.asarray(augment.to_uint8(images))))
    if row == middle:
      of_middle = choice, bits
  return Examples(rows, *of_middle)
