"""Stops a run whose loss or gradient is not finite, or skips the update."""

import math
import pathlib

import jax
import ml_collections
import numpy as np

from experiments.errors import UserError
from experiments.processes.devices import unreplicate

_TERMS = ("mse", "quantizer_loss", "gradient_norm", "loss")


class Guard:
  """Looks at the metrics of every call of the training step."""

  def __init__(self, config: ml_collections.ConfigDict, workdir: pathlib.Path):
    self._skips = config.on_nonfinite == "skip"
    self._max_skipped = config.max_skipped
    self._workdir = workdir
    self._in_succession = 0
    self._has_reported_points = False

  def check(self, metrics: dict[str, jax.Array] | None) -> None:
    """Reports updates that were skipped, or stops the run.

    Args:
      metrics: the metrics of a call, replicated; None if there was none.

    Raises:
      UserError: if a step was not finite and `config.on_nonfinite` is "stop",
        or it is "skip" and more than `config.max_skipped` updates in
        succession were.
    """
    if metrics is None:
      return
    names = (*_TERMS, "is_nonfinite", "nonfinite_points", "step")
    metrics = jax.device_get(unreplicate({k: metrics[k] for k in names}))
    is_nonfinite = metrics["is_nonfinite"]
    self._report_points(metrics)
    most_in_succession = 0
    for is_bad in is_nonfinite:
      self._in_succession = self._in_succession + 1 if is_bad else 0
      most_in_succession = max(most_in_succession, self._in_succession)
    num_nonfinite = is_nonfinite.sum()
    if not num_nonfinite:
      return
    values = {name: float(metrics[name]) for name in _TERMS}
    bad = [name for name, value in values.items() if not math.isfinite(value)]
    shown = ", ".join(f"{name} {value:.6g}" for name, value in values.items())
    what = f"{', '.join(bad)} not finite at step {metrics['step']} ({shown})"
    if not self._skips:
      raise UserError(
        f"{what}; checkpoints in {self._workdir} are from before it; start"
        " anew, with a smaller config.learning_rate for one, or go on with"
        " --config.on_nonfinite=skip"
      )
    if most_in_succession > self._max_skipped:
      raise UserError(
        f"{what}, and {most_in_succession} updates in succession, more than"
        f" config.max_skipped, {self._max_skipped}; checkpoints in"
        f" {self._workdir} are from before or among them; start anew, with a"
        " smaller config.learning_rate for one"
      )
    count = f"{num_nonfinite} updates" if num_nonfinite > 1 else "update"
    print(f"{what}: {count} skipped")

  def _report_points(self, metrics: dict[str, np.ndarray]) -> None:
    """Prints a line when points begin not to be finite."""
    count = int(metrics["nonfinite_points"])
    if count and not self._has_reported_points:
      print(
        f"{count} points not finite up to step {metrics['step']}: they count in"
        " no statistic of a codebook; metrics.jsonl has nonfinite_points of"
        " later steps"
      )
    self._has_reported_points = count > 0
