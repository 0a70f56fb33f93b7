"""Texts in rows and columns, as Markdown and as LaTeX."""

from collections.abc import Sequence
import dataclasses


@dataclasses.dataclass(frozen=True)
class Grid:
  """A table's texts.

  Attributes:
    caption: in one line.
    columns: the heads of the columns.
    rows: the texts of each row, one for each column.
    best: the numbers of row and column of a text in bold; None for none.
  """

  caption: str
  columns: Sequence[str]
  rows: Sequence[Sequence[str]]
  best: tuple[int, int] | None = None


def markdown(grid: Grid) -> str:
  """Returns a table in Markdown."""
  lines = [
    grid.caption,
    "",
    "| " + " | ".join(grid.columns) + " |",
    "|" + "---|" * len(grid.columns),
  ]
  for i, row in enumerate(grid.rows):
    texts = [text.replace("|", r"\|") for text in row]
    _mark(texts, grid, i, "**{}**")
    lines.append("| " + " | ".join(texts) + " |")
  return "\n".join(lines) + "\n"


def latex(grid: Grid) -> str:
  """Returns a table in LaTeX, to be read with the package booktabs."""
  lines = [
    f"% {grid.caption}",
    r"\begin{tabular}{l" + "r" * (len(grid.columns) - 1) + "}",
    r"\toprule",
    " & ".join(_escaped(column) for column in grid.columns) + r" \\",
    r"\midrule",
  ]
  for i, row in enumerate(grid.rows):
    texts = [_escaped(text) for text in row]
    _mark(texts, grid, i, r"\textbf{{{}}}")
    lines.append(" & ".join(texts) + r" \\")
  lines += [r"\bottomrule", r"\end{tabular}"]
  return "\n".join(lines) + "\n"


def _mark(texts: list[str], grid: Grid, row: int, how: str) -> None:
  """Puts the best text of a grid in bold, if it is in this row."""
  if grid.best is not None and grid.best[0] == row:
    column = grid.best[1]
    texts[column] = how.format(texts[column])


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
