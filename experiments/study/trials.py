"""Trials: the runs that tables and figures are made of.

A trial is one variant of one data set, trained with one seed.  Its directory is
DIR/DATASET/VARIANT/seed_SEED.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import functools
import os
import pathlib
from typing import Any

import ml_collections
import numpy as np

from experiments import errors
from experiments.configs import datasets
from experiments.configs.datasets import default_config
from experiments.errors import UserError
from experiments.runs import metric_log
from experiments.runs import summary as summary_lib
from experiments.runs import workdir as workdirs


@dataclasses.dataclass(frozen=True)
class Trial:
  """One run.

  Attributes:
    root: DIR.
    dataset: a key of `configs.datasets.GET_CONFIG`.
    variant: the name of its variant.
    seed: config.seed.
  """

  root: pathlib.Path
  dataset: str
  variant: str
  seed: int

  def __str__(self) -> str:
    return f"{self.dataset}/{self.variant}/seed_{self.seed}"

  @property
  def workdir(self) -> pathlib.Path:
    return self.root / self.dataset / self.variant / f"seed_{self.seed}"

  @property
  def output(self) -> pathlib.Path:
    """The file with what the run prints."""
    return self.workdir.with_suffix(".log")

  @property
  def failure(self) -> pathlib.Path:
    """The file that says why the run failed, if it did."""
    return self.workdir.with_suffix(".failed")

  @property
  def summary(self) -> dict[str, Any] | None:
    """The content of summary.json, None where there is none that can be used.

    A summary without a config is of no use: it does not say what it is of.
    """
    if self.config_problem():
      return None
    return summary_lib.read_summary(self.workdir)

  @property
  def config(self) -> ml_collections.ConfigDict:
    return workdirs.read_config(self.workdir)

  @property
  def metrics(self) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl."""
    return metric_log.read_metrics(self.workdir)

  def log_problems(self) -> list[str]:
    """Returns what is left out of metrics.jsonl, and why."""
    return metric_log.read_log(self.workdir).problems

  @property
  def steps(self) -> int:
    """The number of steps in the log."""
    steps, _ = self.series("train", "loss")
    return int(steps[-1]) if len(steps) else 0

  def series(self, split: str, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns the steps and values of a quantity that the run has logged."""
    return metric_log.read_series(self.workdir, split, name)

  def config_problem(self) -> str:
    """Returns why the run's config cannot be used, "" if it can."""
    if not workdirs.is_begun(self.workdir):
      return ""
    try:
      content = (self.workdir / workdirs.CONFIG).read_bytes()
    except OSError:
      return self._check_config()
    return _config_problem(self, content)

  def _check_config(self) -> str:
    try:
      default_config(self.dataset, self.variant)
      workdirs.read_config(self.workdir)
    except UserError as error:
      return errors.one_line(error)
    return ""

  def problem(self) -> str:
    """Returns why the config or the summary cannot be used, "" if both can."""
    return self.config_problem() or summary_lib.read(self.workdir).problem

  def failed(self) -> str:
    """Returns why the run failed, "" if it did not."""
    try:
      text = self.failure.read_text(errors="replace")
    except FileNotFoundError:
      return ""
    except OSError as error:
      return f"the reason cannot be read ({errors.one_line(error)})"
    return " ".join(text.split()) or "without a reason"

  def status(self) -> str:
    """Returns how far the run is, in a few words."""
    if self.summary:
      return "finished"
    failed = self.failed()
    if failed:
      return f"failed: {failed}"
    problem = self.problem()
    if problem:
      return f"cannot be used: {problem}"
    if not self.metrics:
      return "not run"
    return f"at step {self.steps} of {self.config.num_steps}"


# The runs of each variant, one for each seed, finished ones first.  Curves over
# training show the first; final figures are means over the finished ones.
Runs = Mapping[str, Sequence[Trial]]


@functools.lru_cache(maxsize=4096)
def _config_problem(trial: Trial, content: bytes) -> str:
  """Returns what `_check_config` does, checked once for a file's content.

  Tables and figures ask for a thousand summaries of a dozen runs, and to check
  a config takes far longer than to read it.
  """
  del content
  return trial._check_config()


def ended(runs: Runs) -> dict[str, list[Trial]]:
  """Returns the finished runs of each variant that has any."""
  found = {v: [trial for trial in runs[v] if trial.summary] for v in runs}
  return {variant: trials for variant, trials in found.items() if trials}


def find_trials(root: pathlib.Path, dataset: str) -> list[Trial]:
  """Returns the trials of a data set that DIR has begun."""
  found = []
  for path in sorted((root / dataset).glob("*/seed_*")):
    seed = path.name.removeprefix("seed_")
    if path.is_dir() and seed.isdecimal():
      found.append(Trial(root, dataset, path.parent.name, int(seed)))
  return found


def check_root(root: pathlib.Path) -> None:
  """Raises a UserError if DIR is there, but no directory."""
  if os.path.lexists(root) and not root.is_dir():
    raise UserError(f"--workdir is {root}, which is no directory")


def find_datasets(root: pathlib.Path) -> list[str]:
  """Returns the data sets of which DIR has trials.

  Raises:
    UserError: if there are none.
  """
  check_root(root)
  found = [name for name in datasets.GET_CONFIG if find_trials(root, name)]
  if not found:
    raise UserError(
      f"{root} holds no runs of experiments.tables; it needs"
      " DATASET/VARIANT/seed_N"
    )
  return found
