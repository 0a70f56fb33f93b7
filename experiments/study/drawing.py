"""Draws what the runs in a directory are enough for."""

from collections.abc import Sequence
import pathlib
from typing import Any

import matplotlib.pyplot as plt

from experiments import files
from experiments import style
from experiments.configs import datasets
from experiments.errors import one_line
from experiments.errors import UserError
from experiments.study import comparable
from experiments.study import contents
from experiments.study import page
from experiments.study import plot_list
from experiments.study import table_list
from experiments.study import trials as trials_lib
from experiments.study.trials import Trial


def draw(root: pathlib.Path) -> None:
  """Makes every table and figure that the runs in DIR are enough for.

  Raises:
    UserError: if there are no runs; after all else, if runs that belong
      together differ, whose tables and figures are then left out, or if files
      cannot be read or written.
  """
  found = trials_lib.find_datasets(root)
  work = _Drawing(root)
  datasets, tables = {}, {}
  for dataset in found:
    trials = work.sift(trials_lib.find_trials(root, dataset))
    tables[dataset] = work.make_tables(dataset)
    try:
      comparable.check_alike(trials)
    except UserError as error:
      work.problems.append(f"no figures of {dataset}: {error}")
      continue
    datasets[dataset] = _by_variant(trials)
    for plot in plot_list.PLOTS:
      if not plot.is_of(_is_grey(dataset)):
        continue
      lacks = plot.lacks(datasets[dataset])
      if lacks:
        print(f"{plot.name} of {dataset}: left out, {lacks}")
      else:
        work.save(dataset, f"{plot.name}_{dataset}", plot, datasets[dataset])
  for plot in plot_list.OVERVIEWS:
    drawable = {
      dataset: runs
      for dataset, runs in datasets.items()
      if plot.is_of(_is_grey(dataset)) and not plot.lacks(runs)
    }
    if drawable:
      work.save("", plot.name, plot, drawable)
  path = root / "report.html"
  problems = list(dict.fromkeys(work.problems))
  notes = [*problems, *work.notes]
  try:
    with files.writing(path):
      files.write_text(path, page.make(root, tables, work.drawn, notes))
    print(path)
  except UserError as error:
    problems.append(str(error))
  if problems:
    raise UserError("; ".join(problems))


class _Drawing:
  """The figures and tables of a directory, and what is wrong with its runs.

  Attributes:
    drawn: the figures, by data set.
    problems: what is left out, and why.
    notes: what is left out of the figures that were drawn.
  """

  def __init__(self, root: pathlib.Path):
    self._root = root
    self.drawn: dict[str, list[page.Figure]] = {}
    self.problems: list[str] = []
    self.notes: list[str] = []

  def sift(self, trials: Sequence[Trial]) -> list[Trial]:
    """Returns the usable runs, and notes what is wrong with others."""
    usable = []
    for trial in trials:
      problem = trial.problem()
      if problem:
        self.problems.append(f"{trial}: {problem}")
      if not trial.config_problem():
        usable.append(trial)
        for note in trial.log_problems():
          self.notes.append(note)
          print(note)
    return usable

  def make_tables(self, dataset: str) -> list[str]:
    """Writes the tables of a data set, and returns them in Markdown."""
    tables, shown = [], set()
    for table in contents.TABLES:
      try:
        made = table_list.make(self._root, dataset, table, seeds=(0,))
      except UserError as error:
        self.problems.append(f"no table {table} of {dataset}: {error}")
        continue
      # A table that only repeats rows of earlier tables is left out.
      if made.shown - shown:
        tables.append(made.texts[".md"])
        try:
          table_list.write(self._root, dataset, table, made)
        except UserError as error:
          self.problems.append(str(error))
      shown |= made.shown
    return tables

  def save(
    self, dataset: str, name: str, plot: plot_list.Plot, runs: Any
  ) -> None:
    """Draws a figure of runs, and writes it."""
    place = self._root / "figures"
    try:
      with files.writing(place):
        place.mkdir(exist_ok=True)
        style.save(plot.draw(runs), place / name, ".svg", ".png")
    except (LookupError, UserError, ValueError) as error:
      # Lines of a log, say, that are intact but do not fit together.
      is_user_error = isinstance(error, UserError)
      text = str(error) if is_user_error else f"no {name}: {one_line(error)}"
      self.problems.append(text)
      plt.close("all")  # what was begun
      return
    figure = page.Figure(name, plot.caption)
    self.drawn.setdefault(dataset, []).append(figure)
    print(place / f"{name}.svg")


def _by_variant(trials: Sequence[Trial]) -> dict[str, list[Trial]]:
  """Returns the begun runs of each variant, finished ones first."""
  runs = {}
  for trial in sorted(
    trials, key=lambda trial: (not trial.summary, trial.seed)
  ):
    if trial.steps:
      runs.setdefault(trial.variant, []).append(trial)
  return runs


def _is_grey(dataset: str) -> bool:
  return datasets.default_config(dataset, "adaptive").data.channels == 1
