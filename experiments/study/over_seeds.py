"""Figures of runs that differ in their seeds alone."""

from collections.abc import Sequence
import dataclasses

import numpy as np

from experiments.study.trials import Trial


@dataclasses.dataclass(frozen=True)
class Statistic:
  """A figure over seeds.

  Attributes:
    values: the values of the finished runs.
  """

  values: tuple[float, ...]

  @property
  def mean(self) -> float:
    return float(np.mean(self.values))

  @property
  def std(self) -> float | None:
    """The sample's standard deviation; None for a single run."""
    if len(self.values) < 2:
      return None
    return float(np.std(self.values, ddof=1))

  def text(self, digits: int) -> str:
    if self.std is None:
      return f"{self.mean:.{digits}f}"
    return f"{self.mean:.{digits}f} ± {self.std:.{digits}f}"


def mean(trials: Sequence[Trial], name: str) -> float:
  """Returns the mean of a figure over runs; NaN if no run has it."""
  found = statistic(trials, name)
  return found.mean if found else float("nan")


def mean_loss(trials: Sequence[Trial]) -> float:
  """Returns the mean loss over runs, the paper's `recon_loss_sum`."""
  return mean(trials, "recon_loss_sum")


def statistic(trials: Sequence[Trial], *path: str) -> Statistic | None:
  """Returns a figure over runs, found by its keys; None if no run has it."""
  values = []
  for trial in trials:
    value = trial.summary
    for key in path:
      value = value.get(key) if value else None
    if value is not None:
      values.append(value)
  return Statistic(tuple(values)) if values else None
