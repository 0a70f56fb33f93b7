"""Rates and distortions of runs: a point, or a curve of one model."""

from collections.abc import Sequence
import dataclasses

import numpy as np

from experiments.study.trials import Trial

RATES = {"rate_nominal": "nominal", "rate_coded": "entropy-coded"}
"""The titles of the rates that a summary may have."""


@dataclasses.dataclass(frozen=True)
class Point:
  """What a model reaches with some bits; means over seeds.

  Attributes:
    rate: in bits per position.
    loss: the paper's `recon_loss_sum`.
    psnr: in dB.
  """

  rate: float
  loss: float
  psnr: float


def is_priced(trials: Sequence[Trial]) -> bool:
  """Whether a variant's model was evaluated at several prices."""
  return any(trial.summary.get("curve") for trial in trials)


def points(trials: Sequence[Trial], rate: str) -> list[Point]:
  """Returns the points of a variant's finished runs.

  A model that was evaluated at several prices has one at each, by rising price;
  any other has one.  A variant has none where no run has such a rate.

  Args:
    trials: the finished runs, one for each seed.
    rate: a key of `RATES`.
  """
  by_price = {}
  has_curve = is_priced(trials)
  for trial in trials:
    summary = trial.summary
    for figures in summary.get("curve", ()) if has_curve else [summary]:
      if figures.get(rate) is not None:
        price = figures["rate_weight"] if has_curve else 0.0
        by_price.setdefault(price, []).append(figures)
  return [
    Point(
      *(
        float(np.mean([figures[name] for figures in by_price[price]]))
        for name in (rate, "recon_loss_sum", "psnr")
      )
    )
    for price in sorted(by_price)
  ]
