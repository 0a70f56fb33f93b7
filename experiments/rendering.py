"""Tables from runs: Markdown, CSV and LaTeX."""

from collections.abc import Sequence
import csv
import dataclasses
import io
import math
import pathlib

from experiments import cells as cells_lib
from experiments import contents
from experiments import paper
from experiments.cells import Cell
from experiments.cells import Statistic
from experiments.cells import statistic


@dataclasses.dataclass(frozen=True)
class Row:
  """A row of a table.

  Attributes:
    name: as the paper has it.
    variant: of the configs.
    paper: the paper's number; None where it has none.
    cells: the runs that have ended, one for each seed.
    status: of the others, in a few words; "" where there are none.
  """

  name: str
  variant: str
  paper: float | None
  cells: tuple[Cell, ...]
  status: str = ""

  def figure(self, *path: str) -> Statistic | None:
    return statistic(self.cells, *path)

  @property
  def loss(self) -> Statistic | None:
    return self.figure("recon_loss_sum")


def make_rows(
  root: pathlib.Path, dataset: str, table: int, seeds: Sequence[int]
) -> list[Row]:
  """Returns the rows of a table.

  Args:
    root: DIR.
    dataset: of the runs.
    table: a key of `contents.TITLES`.
    seeds: which runs.

  Raises:
    UserError: if the runs are not of one kind.
  """
  variants = contents.VARIANTS[table]
  runs = {
    variant: [Cell(root, dataset, variant, seed) for seed in seeds]
    for variant in variants
  }
  cells_lib.check_alike(cell for some in runs.values() for cell in some)
  rows = [
    Row(
      name=contents.row_name(table, variant),
      variant=variant,
      paper=paper.number(table, dataset, variant),
      cells=tuple(cell for cell in runs[variant] if cell.summary),
      status="; ".join(
        f"seed {cell.seed} {cell.status()}"
        for cell in runs[variant]
        if not cell.summary
      ),
    )
    for variant in variants
  ]
  return _best_and_adaptive(rows) if table == 2 else rows


def _best_and_adaptive(rows: Sequence[Row]) -> list[Row]:
  """Table 2: the fixed codebook with the smallest loss, and the pool."""
  *fixed, adaptive = rows
  numbers = [row.paper for row in fixed if row.paper is not None]
  measured = [row for row in fixed if row.cells]
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
    cells=best.cells if measured else (),
  )
  return [best, adaptive]


_COLUMNS = (
  "",
  "recon_loss_sum",
  "paper",
  "ratio",
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
  """Writes DIR/DATASET/tableN.md, .csv and .tex; returns their paths."""
  stem = root / dataset / f"table{table}"
  texts = {
    ".md": markdown(dataset, table, rows),
    ".csv": comma_separated(rows),
    ".tex": latex(dataset, table, rows),
  }
  paths = []
  for suffix, text in texts.items():
    path = stem.with_suffix(suffix)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    paths.append(path)
  return paths


def markdown(dataset: str, table: int, rows: Sequence[Row]) -> str:
  """Returns a table in Markdown, the smallest loss in bold."""
  lines = [
    f"Table {table}: {contents.TITLES[table]}, {dataset}{_of_runs(rows)}",
    "",
    "| " + " | ".join(_COLUMNS) + " |",
    "|" + "---|" * len(_COLUMNS),
  ]
  best, digits = _best(rows), _digits(rows)
  for row in rows:
    texts = _texts(row, digits)
    if row is best:
      texts[1] = f"**{texts[1]}**"
    lines.append("| " + " | ".join(texts) + " |")
  return "\n".join(lines) + "\n"


def latex(dataset: str, table: int, rows: Sequence[Row]) -> str:
  """Returns a table in LaTeX, to be read with the package booktabs."""
  best, digits = _best(rows), _digits(rows)
  lines = [
    f"% Table {table}: {contents.TITLES[table]}, {dataset}{_of_runs(rows)}",
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
    "drawn": ("drawn", "recon_loss_sum"),
    "rate_nominal": ("rate_nominal",),
    "rate_coded": ("rate_coded",),
    "psnr": ("psnr",),
    "usage": ("usage",),
  }
  writer.writerow(
    ["variant", "seeds", "recon_loss_sum", "std", "paper", "ratio"]
    + [*figures, "status"]
  )
  for row in rows:
    loss = row.loss
    ratio = loss and row.paper and loss.mean / row.paper
    numbers = [loss and loss.mean, loss and loss.std, row.paper, ratio]
    for path in figures.values():
      value = row.figure(*path)
      numbers.append(value and value.mean)
    writer.writerow(
      [row.variant, len(row.cells)]
      + ["" if number is None else f"{number:.6g}" for number in numbers]
      + [row.status]
    )
  return text.getvalue()


def _of_runs(rows: Sequence[Row]) -> str:
  """How the runs of a table were trained; they are all alike."""
  for row in rows:
    for cell in row.cells:
      return (
        f"; {cell.summary['steps']} updates of batch {cell.config.batch_size}"
      )
  return ""


def _best(rows: Sequence[Row]) -> Row | None:
  measured = [row for row in rows if row.cells]
  return min(measured, key=lambda row: row.loss.mean) if measured else None


def _digits(rows: Sequence[Row]) -> int:
  """Decimals of losses: the paper's three, more where losses are small."""
  best = _best(rows)
  if best is None or best.loss.mean <= 0:
    return 3
  return max(3, 2 - math.floor(math.log10(best.loss.mean)))


def _texts(row: Row, digits: int) -> list[str]:
  paper_text = "" if row.paper is None else f"{row.paper:.3f}"
  if not row.cells:
    empty = [""] * (len(_COLUMNS) - 4)
    return [row.name, row.status, paper_text, "", *empty]
  texts = [row.name, row.loss.text(digits), paper_text]
  texts.append(f"{row.loss.mean / row.paper:.2f}" if row.paper else "")
  for decimals, *path in (
    (digits, "drawn", "recon_loss_sum"),
    (2, "rate_nominal"),
    (2, "rate_coded"),
    (2, "psnr"),
  ):
    figure = row.figure(*path)
    texts.append(figure.text(decimals) if figure else "")
  texts.append(f"{row.figure('usage').mean:.1%}")
  count = str(len(row.cells))
  return [*texts, f"{count} ({row.status})" if row.status else count]


_LATEX = str.maketrans(
  {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "_": r"\_",
    "±": r"$\pm$",
  }
)


def _escaped(text: str) -> str:
  return text.translate(_LATEX)
