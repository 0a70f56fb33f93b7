"""Tables from runs: Markdown, CSV and LaTeX."""

from collections.abc import Sequence
import csv
import dataclasses
import io
import math
import pathlib

import numpy as np

from experiments import files
from experiments.configs import variants
from experiments.study import comparable
from experiments.study import contents
from experiments.study import paper
from experiments.study import trials as trials_lib
from experiments.study.over_seeds import Statistic
from experiments.study.over_seeds import statistic
from experiments.study.trials import Trial


@dataclasses.dataclass(frozen=True)
class Row:
  """A row of a table.

  Attributes:
    name: the name that the table gives to the row.
    variant: the name of the variant in configs.
    paper: the paper's number; None where it has none.
    trials: the finished runs, one for each seed.
    status: what the other runs are doing; "" where there are none.
    has_failed: whether some of the other runs failed, or cannot be used.
  """

  name: str
  variant: str
  paper: float | None
  trials: tuple[Trial, ...]
  status: str = ""
  has_failed: bool = False

  def figure(self, *path: str) -> Statistic | None:
    return statistic(self.trials, *path)

  @property
  def loss(self) -> Statistic | None:
    return self.figure("recon_loss_sum")

  @property
  def most_probable(self) -> Statistic | None:
    """The loss with the most probable codebook at each position."""
    return self._evaluated("not_drawn", "drawn")

  @property
  def drawn(self) -> Statistic | None:
    """The loss with sampled codebooks, as in training."""
    return self._evaluated("drawn", "not_drawn")

  def _evaluated(self, way: str, other: str) -> Statistic | None:
    """Returns the loss of one way of evaluation; None if there is only one way.

    A summary has the loss of the config's way, and under a key of its own that
    of the other way.
    """
    if self.figure(other, "recon_loss_sum"):
      return self.loss
    return self.figure(way, "recon_loss_sum")


def make_rows(
  root: pathlib.Path, dataset: str, table: int, seeds: Sequence[int]
) -> list[Row]:
  """Returns the rows of a table.

  Args:
    root: DIR.
    dataset: the data set of the runs.
    table: a key of `contents.TABLES`.
    seeds: the expected ones; runs of other seeds count too.

  Raises:
    UserError: if the runs are not of one kind.
  """
  titles = contents.TABLES[table].rows
  runs = {
    variant: {seed: Trial(root, dataset, variant, seed) for seed in seeds}
    for variant in titles
  }
  for trial in trials_lib.find_trials(root, dataset):
    if trial.variant in runs:
      runs[trial.variant][trial.seed] = trial
  comparable.check_alike(
    trial for by_seed in runs.values() for trial in by_seed.values()
  )
  rows = []
  for variant, title in titles.items():
    trials = [runs[variant][seed] for seed in sorted(runs[variant])]
    others = [trial for trial in trials if not trial.summary]
    rows.append(
      Row(
        name=title or variants.find(dataset, variant).title,
        variant=variant,
        paper=paper.number(table, dataset, variant),
        trials=tuple(trial for trial in trials if trial.summary),
        status="; ".join(f"seed {c.seed} {c.status()}" for c in others),
        has_failed=any(trial.failed() or trial.problem() for trial in others),
      )
    )
  return _best_and_adaptive(rows) if table == 2 else rows


def _best_and_adaptive(rows: Sequence[Row]) -> list[Row]:
  """Table 2: the fixed codebook with the smallest loss, and the pool."""
  *fixed, adaptive = rows
  numbers = [row.paper for row in fixed if row.paper is not None]
  measured = [row for row in fixed if row.trials]
  missing = [row.name for row in fixed if row.status]
  status = f"of {', '.join(missing)}: not all runs" if missing else ""
  name, best = "Fixed codebook", fixed[0]
  if measured:
    best = min(measured, key=lambda row: row.loss.mean)
    name += f", the best: {best.name}"
  best = dataclasses.replace(
    best,
    name=name,
    paper=min(numbers) if numbers else None,
    status=status,
    trials=best.trials if measured else (),
  )
  return [best, adaptive]


_COLUMNS = (
  "",
  "recon_loss_sum",
  "paper",
  "ratio",
  "most probable",
  "drawn",
  "bits/position",
  "entropy-coded",
  "PSNR (dB)",
  "codewords used",
  "seeds",
)


def write(
  root: pathlib.Path, dataset: str, table: int, rows: Sequence[Row]
) -> list[pathlib.Path]:
  """Writes DIR/DATASET/tableN.md, .csv and .tex; returns their paths.

  Raises:
    UserError: if one of them cannot be written.
  """
  stem = root / dataset / f"table{table}"
  texts = {
    ".md": markdown(dataset, table, rows),
    ".csv": comma_separated(rows),
    ".tex": latex(dataset, table, rows),
  }
  paths = []
  for suffix, text in texts.items():
    path = stem.with_suffix(suffix)
    with files.writing(path):
      path.parent.mkdir(parents=True, exist_ok=True)
      files.write_text(path, text)
    paths.append(path)
  return paths


def markdown(dataset: str, table: int, rows: Sequence[Row]) -> str:
  """Returns a table in Markdown, the smallest loss in bold."""
  lines = [
    _caption(dataset, table, rows),
    "",
    "| " + " | ".join(_COLUMNS) + " |",
    "|" + "---|" * len(_COLUMNS),
  ]
  best, digits = _best(rows), _digits(rows)
  for row in rows:
    texts = [text.replace("|", r"\|") for text in _texts(row, digits)]
    if row is best:
      texts[1] = f"**{texts[1]}**"
    lines.append("| " + " | ".join(texts) + " |")
  return "\n".join(lines) + "\n"


def latex(dataset: str, table: int, rows: Sequence[Row]) -> str:
  """Returns a table in LaTeX, to be read with the package booktabs."""
  best, digits = _best(rows), _digits(rows)
  lines = [
    f"% {_caption(dataset, table, rows)}",
    r"\begin{tabular}{l" + "r" * (len(_COLUMNS) - 1) + "}",
    r"\toprule",
    " & ".join(_escaped(column) for column in _COLUMNS) + r" \\",
    r"\midrule",
  ]
  for row in rows:
    texts = [_escaped(text) for text in _texts(row, digits)]
    if row is best:
      texts[1] = rf"\textbf{{{texts[1]}}}"
    lines.append(" & ".join(texts) + r" \\")
  lines += [r"\bottomrule", r"\end{tabular}"]
  return "\n".join(lines) + "\n"


def comma_separated(rows: Sequence[Row]) -> str:
  """Returns a table as CSV: figures in full, missing ones empty."""
  text = io.StringIO()
  writer = csv.writer(text, lineterminator="\n")
  figures = {
    "rate_nominal": ("rate_nominal",),
    "rate_coded": ("rate_coded",),
    "psnr": ("psnr",),
    "usage": ("usage",),
  }
  writer.writerow(
    ["variant", "seeds", "recon_loss_sum", "std", "paper", "ratio"]
    + ["most_probable", "drawn", *figures, "status"]
  )
  for row in rows:
    loss = row.loss
    ratio = loss and row.paper and loss.mean / row.paper
    numbers = [loss and loss.mean, loss and loss.std, row.paper, ratio]
    others = [row.figure(*path) for path in figures.values()]
    for value in (row.most_probable, row.drawn, *others):
      numbers.append(value and value.mean)
    writer.writerow(
      [row.variant, len(row.trials)]
      + ["" if number is None else f"{number:.6g}" for number in numbers]
      + [row.status]
    )
  return text.getvalue()


def _caption(dataset: str, table: int, rows: Sequence[Row]) -> str:
  title = contents.TABLES[table].title
  return f"Table {table}: {title}, {dataset}{_of_runs(rows)}"


def _of_runs(rows: Sequence[Row]) -> str:
  """Returns how the runs of a table were trained; all were trained alike."""
  for row in rows:
    for trial in row.trials:
      return (
        f"; {trial.summary['steps']} updates of batch {trial.config.batch_size}"
      )
  return ""


def _best(rows: Sequence[Row]) -> Row | None:
  measured = [row for row in rows if row.loss and np.isfinite(row.loss.mean)]
  return min(measured, key=lambda row: row.loss.mean) if measured else None


def _digits(rows: Sequence[Row]) -> int:
  """Decimals of losses: the paper's three, more where losses are small."""
  best = _best(rows)
  if best is None or best.loss.mean <= 0:
    return 3
  return max(3, 2 - math.floor(math.log10(best.loss.mean)))


def _texts(row: Row, digits: int) -> list[str]:
  paper_text = "" if row.paper is None else f"{row.paper:.3f}"
  if not row.trials:
    empty = [""] * (len(_COLUMNS) - 4)
    return [row.name, row.status, paper_text, "", *empty]
  texts = [row.name, row.loss.text(digits), paper_text]
  texts.append(f"{row.loss.mean / row.paper:.2f}" if row.paper else "")
  for decimals, figure in (
    (digits, row.most_probable),
    (digits, row.drawn),
    (2, row.figure("rate_nominal")),
    (2, row.figure("rate_coded")),
    (2, row.figure("psnr")),
  ):
    texts.append(figure.text(decimals) if figure else "")
  texts.append(f"{100 * row.figure('usage').mean:.3g}%")
  count = str(len(row.trials))
  return [*texts, f"{count} ({row.status})" if row.status else count]


_LATEX = str.maketrans(
  {
    **{symbol: f"\\{symbol}" for symbol in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "[": "{[}",  # at the start of a row it would belong to \\ before it
  }
)


def _escaped(text: str) -> str:
  return text.translate(_LATEX)
