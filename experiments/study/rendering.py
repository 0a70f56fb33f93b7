"""Tables from runs: Markdown, CSV and LaTeX."""

from collections.abc import Sequence
import csv
import io
import math

import numpy as np

from experiments.study import comparable
from experiments.study import contents
from experiments.study import grid as grid_lib
from experiments.study import ranks
from experiments.study.over_seeds import Statistic
from experiments.study.over_seeds import statistic
from experiments.study.rows import Row

_SSIM = "SSIM"
_FIRST_BATCH = ("recon_loss_first_batch", "its ratio")
_BESIDE = ("the authors' code", "that ratio", "its codewords used")
_COLUMNS = (
  "",
  "recon_loss_sum",
  "paper",
  "ratio",
  *_FIRST_BATCH,
  "most probable",
  "drawn",
  "bits/position",
  "entropy-coded",
  "PSNR (dB)",
  _SSIM,
  "codewords used",
  *_BESIDE,
  "seeds",
)


def markdown(dataset: str, table: int, rows: Sequence[Row]) -> str:
  """Returns a table in Markdown, the smallest loss in bold."""
  return grid_lib.markdown(_grid(dataset, table, rows))


def latex(dataset: str, table: int, rows: Sequence[Row]) -> str:
  """Returns a table in LaTeX, to be read with the package booktabs."""
  return grid_lib.latex(_grid(dataset, table, rows))


def _grid(dataset: str, table: int, rows: Sequence[Row]) -> grid_lib.Grid:
  columns, digits, best = _columns(rows), _digits(rows), _best(rows)
  cells = [_cells(row, digits) for row in rows]
  return grid_lib.Grid(
    _caption(dataset, table, rows),
    columns,
    [[texts.get(column, "") for column in columns] for texts in cells],
    next(((i, 1) for i, row in enumerate(rows) if row is best), None),
  )


def comma_separated(rows: Sequence[Row]) -> str:
  """Returns a table as CSV: figures in full, missing ones empty."""
  text = io.StringIO()
  writer = csv.writer(text, lineterminator="\n")
  figures = {
    "rate_nominal": ("rate_nominal",),
    "rate_coded": ("rate_coded",),
    "psnr": ("psnr",),
    **({"ssim": ("ssim",)} if _has_ssim(rows) else {}),
    "usage": ("usage",),
  }
  first_batch = ["recon_loss_first_batch", "first_batch_ratio"]
  writer.writerow(
    ["variant", "seeds", "recon_loss_sum", "std", "paper", "ratio"]
    + first_batch * _has_first_batch(rows)
    + ["most_probable", "drawn", *figures]
    + ["authors_code", "authors_code_ratio"] * _has_beside(rows)
    + ["status"]
  )
  for row in rows:
    loss = row.loss
    numbers = [loss and loss.mean, loss and loss.std, row.paper]
    numbers.append(_ratio(loss, row))
    if _has_first_batch(rows):
      first = row.first_batch
      numbers += [first and first.mean, _ratio(first, row)]
    others = [row.figure(*path) for path in figures.values()]
    for value in (row.most_probable, row.drawn, *others):
      numbers.append(value and value.mean)
    if _has_beside(rows):
      beside = row.loss_beside
      numbers += [beside and beside.mean, _ratio(beside, row)]
    writer.writerow(
      [row.variant, len(row.trials)]
      + ["" if number is None else f"{number:.6g}" for number in numbers]
      + [row.status]
    )
  return text.getvalue()


def _has_first_batch(rows: Sequence[Row]) -> bool:
  """Whether any row has the loss of the first batch; older runs lack it."""
  return any(row.first_batch for row in rows)


def _has_ssim(rows: Sequence[Row]) -> bool:
  """Whether any row has SSIM; older runs lack it."""
  return any(row.figure("ssim") for row in rows)


def _has_beside(rows: Sequence[Row]) -> bool:
  """Whether any row was trained as the authors' code has it, too."""
  return any(row.beside for row in rows)


def _columns(rows: Sequence[Row]) -> list[str]:
  left_out = ()
  if not _has_first_batch(rows):
    left_out += _FIRST_BATCH
  if not _has_beside(rows):
    left_out += _BESIDE
  if not _has_ssim(rows):
    left_out += (_SSIM,)
  return [column for column in _COLUMNS if column not in left_out]


def _ratio(loss: Statistic | None, row: Row) -> float | None:
  """Returns a loss as a multiple of the paper's number, None without one."""
  return loss.mean / row.paper if loss and row.paper else None


def _caption(dataset: str, table: int, rows: Sequence[Row]) -> str:
  title = contents.TABLES[table].title
  trained = comparable.describe(trial for row in rows for trial in row.trials)
  return f"Table {table}: {title}, {dataset}{trained}{_of_ranks(rows)}"


def _of_ranks(rows: Sequence[Row]) -> str:
  """Returns how far the rows have the order that they have in the paper."""
  found = []
  for name, losses in (
    ("", [row.loss for row in rows]),
    ("first batch ", [row.first_batch for row in rows]),
    ("the authors' code ", [row.loss_beside for row in rows]),
  ):
    pairs = [
      (loss.mean, row.paper)
      for loss, row in zip(losses, rows, strict=True)
      if loss and row.paper is not None and not np.isnan(loss.mean)
    ]
    if len(pairs) >= 3:  # two have one of two orders
      found.append(f"{name}{ranks.correlation(*zip(*pairs, strict=True)):.2f}")
  if not found:
    return ""
  return f"; rank correlation with the paper {', '.join(found)}"


def _best(rows: Sequence[Row]) -> Row | None:
  measured = [row for row in rows if row.loss and np.isfinite(row.loss.mean)]
  return min(measured, key=lambda row: row.loss.mean) if measured else None


def _digits(rows: Sequence[Row]) -> int:
  """Decimals of losses: the paper's three, more where losses are small."""
  best = _best(rows)
  if best is None or best.loss.mean <= 0:
    return 3
  return max(3, 2 - math.floor(math.log10(best.loss.mean)))


def _cells(row: Row, digits: int) -> dict[str, str]:
  """Returns the texts of a row by column, less those that are empty."""
  cells = {"": row.name, "recon_loss_sum": row.status}
  if row.paper is not None:
    cells["paper"] = f"{row.paper:.3f}"
  if not row.trials:
    return cells
  for column, ratio in (
    ("ratio", _ratio(row.loss, row)),
    ("its ratio", _ratio(row.first_batch, row)),
    ("that ratio", _ratio(row.loss_beside, row)),
  ):
    if ratio is not None:
      cells[column] = f"{ratio:.2f}"
  for column, decimals, figure in (
    ("recon_loss_sum", digits, row.loss),
    ("recon_loss_first_batch", digits, row.first_batch),
    ("the authors' code", digits, row.loss_beside),
    ("most probable", digits, row.most_probable),
    ("drawn", digits, row.drawn),
    ("bits/position", 2, row.figure("rate_nominal")),
    ("entropy-coded", 2, row.figure("rate_coded")),
    ("PSNR (dB)", 2, row.figure("psnr")),
    (_SSIM, 4, row.figure("ssim")),
  ):
    if figure:
      cells[column] = figure.text(decimals)
  for column, trials in (
    ("codewords used", row.trials),
    ("its codewords used", row.beside),
  ):
    if usage := statistic(trials, "usage"):
      cells[column] = f"{100 * usage.mean:.3g}%"
  count = str(len(row.trials))
  cells["seeds"] = f"{count} ({row.status})" if row.status else count
  return cells
