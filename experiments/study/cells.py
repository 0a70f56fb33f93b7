"""The runs that tables and figures are made of, and where they are.

A cell is one variant of one data set, trained with one seed, in
DIR/DATASET/VARIANT/seed_SEED.
"""

import collections
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import os
import pathlib
from typing import Any

import ml_collections
import numpy as np

from experiments import errors
from experiments.configs import datasets
from experiments.configs.datasets import default_config
from experiments.errors import UserError
from experiments.runs import config_changes
from experiments.runs import metric_log
from experiments.runs import summary as summary_lib
from experiments.runs import workdir as workdirs

# What may differ between runs of one table, beside what their variants change:
# what a run may change as it goes on, but for what its figures depend on.
_OF_FIGURES = {"num_steps", "rate_examples", "data.paper_batch_size"}
_MAY_DIFFER = config_changes.MAY_CHANGE - _OF_FIGURES | {"seed", "variant"}


@dataclasses.dataclass(frozen=True)
class Cell:
  """One run.

  Attributes:
    root: DIR.
    dataset: a key of `configs.datasets.GET_CONFIG`.
    variant: of its config.
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
    """summary.json, None before the run has ended, or if it is of no use.

    Without a config nobody knows what the figures are of.
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
    """What is left out of metrics.jsonl, and why."""
    return metric_log.read_log(self.workdir).problems

  @property
  def steps(self) -> int:
    """How many the log tells of."""
    steps, _ = self.series("train", "loss")
    return int(steps[-1]) if len(steps) else 0

  def series(self, split: str, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns what `metric_log.read_series` does."""
    return metric_log.read_series(self.workdir, split, name)

  def config_problem(self) -> str:
    """Returns why nothing can be made of the run, "" if something can."""
    if not workdirs.is_begun(self.workdir):
      return ""
    try:
      default_config(self.dataset, self.variant)
      workdirs.read_config(self.workdir)
    except UserError as error:
      return errors.one_line(error)
    return ""

  def problem(self) -> str:
    """Returns why the run is left out, or not taken as finished; "" if not."""
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


# The runs of each variant, one for each seed, those first that have ended.
# Curves over training are of the first, final figures the means over the ended.
Runs = Mapping[str, Sequence[Cell]]


def ended(runs: Runs) -> dict[str, list[Cell]]:
  """Returns those that have ended, of the variants that have any."""
  found = {v: [cell for cell in runs[v] if cell.summary] for v in runs}
  return {variant: cells for variant, cells in found.items() if cells}


def find_cells(root: pathlib.Path, dataset: str) -> list[Cell]:
  """Returns the cells of a data set that DIR has begun."""
  found = []
  for path in sorted((root / dataset).glob("*/seed_*")):
    seed = path.name.removeprefix("seed_")
    if path.is_dir() and seed.isdecimal():
      found.append(Cell(root, dataset, path.parent.name, int(seed)))
  return found


def check_root(root: pathlib.Path) -> None:
  """Raises a UserError if DIR is there, but no directory."""
  if os.path.lexists(root) and not root.is_dir():
    raise UserError(f"--workdir is {root}, which is no directory")


def find_datasets(root: pathlib.Path) -> list[str]:
  """Returns the data sets of which DIR has cells.

  Raises:
    UserError: if there are none.
  """
  check_root(root)
  found = [name for name in datasets.GET_CONFIG if find_cells(root, name)]
  if not found:
    raise UserError(
      f"{root} holds no runs of experiments.tables; it needs"
      " DATASET/VARIANT/seed_N"
    )
  return found


def differences(cell: Cell, config: ml_collections.ConfigDict) -> list[str]:
  """Returns in what a run that has begun is not what `config` asks for."""
  there, wanted = map(config_changes.fields_of, (cell.config, config))
  fields = [field for field in wanted if field not in _MAY_DIFFER]
  return config_changes.differences(there, wanted, fields)


def check_alike(cells: Iterable[Cell]) -> None:
  """Raises a UserError unless finished runs differ in their variants alone.

  Data, batches, steps, the version of the code, and all else that the variants
  themselves do not change.
  """
  settings = {str(cell): _setting(cell) for cell in cells if cell.summary}
  for field in sorted(set().union(*settings.values())):
    by_value = collections.defaultdict(list)
    for name, setting in settings.items():
      by_value[repr(setting.get(field, "the default"))].append(name)
    if len(by_value) > 1:
      values = "; ".join(
        f"{value} in {', '.join(names)}" for value, names in by_value.items()
      )
      raise UserError(
        f"runs of one table disagree on {field}: {values}; tables are made of"
        " runs that differ in their variants alone: keep others in another"
        " directory"
      )


def _setting(cell: Cell) -> dict[str, Any]:
  """What differs from the default of a run's variant, and its version."""
  there = config_changes.fields_of(cell.config)
  default = default_config(cell.dataset, cell.variant)
  setting = {
    field: there.get(field)
    for field, value in config_changes.fields_of(default).items()
    if field not in _MAY_DIFFER and there.get(field) != value
  }
  setting["num_steps"] = cell.summary["steps"]
  setting["version"] = cell.summary.get("version")
  return setting


@dataclasses.dataclass(frozen=True)
class Statistic:
  """A figure over seeds.

  Attributes:
    values: of each finished run.
  """

  values: tuple[float, ...]

  @property
  def mean(self) -> float:
    return float(np.mean(self.values))

  @property
  def std(self) -> float | None:
    """The sample's standard deviation; None of one run."""
    if len(self.values) < 2:
      return None
    return float(np.std(self.values, ddof=1))

  def text(self, digits: int) -> str:
    if self.std is None:
      return f"{self.mean:.{digits}f}"
    return f"{self.mean:.{digits}f} ± {self.std:.{digits}f}"


def mean(cells: Sequence[Cell], name: str) -> float:
  """The mean of a figure of the summaries of runs; NaN if no run has it."""
  found = statistic(cells, name)
  return found.mean if found else float("nan")


def mean_loss(cells: Sequence[Cell]) -> float:
  return mean(cells, "recon_loss_sum")


def statistic(cells: Sequence[Cell], *path: str) -> Statistic | None:
  """Returns a figure of the summaries of runs; None if no run has it."""
  values = []
  for cell in cells:
    value = cell.summary
    for key in path:
      value = value.get(key) if value else None
    if value is not None:
      values.append(value)
  return Statistic(tuple(values)) if values else None
