"""Makes the tables, whichever they are, and writes them."""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import pathlib

from experiments import files
from experiments.study import contents
from experiments.study import rate_table
from experiments.study import rendering
from experiments.study import rows as rows_lib


@dataclasses.dataclass(frozen=True)
class Made:
  """A table of runs.

  Attributes:
    texts: the table by the suffix of its file: .md, .csv and .tex.
    shown: names of the rows that have figures, or that failed.
  """

  texts: Mapping[str, str]
  shown: frozenset[str]


def make(
  root: pathlib.Path, dataset: str, table: int, seeds: Sequence[int]
) -> Made:
  """Makes a table.

  Args:
    root: DIR.
    dataset: the data set of the runs.
    table: a key of `contents.TABLES`.
    seeds: the expected ones; runs of other seeds count too.

  Raises:
    UserError: if the runs are not of one kind.
  """
  if table == contents.RATES:
    families = rate_table.make(root, dataset)
    return Made(
      {
        ".md": rate_table.markdown(dataset, table, families),
        ".csv": rate_table.comma_separated(families),
        ".tex": rate_table.latex(dataset, table, families),
      },
      rate_table.shown(families),
    )
  rows = rows_lib.make(root, dataset, table, seeds)
  return Made(
    {
      ".md": rendering.markdown(dataset, table, rows),
      ".csv": rendering.comma_separated(rows),
      ".tex": rendering.latex(dataset, table, rows),
    },
    frozenset(row.variant for row in rows if row.trials or row.has_failed),
  )


def write(
  root: pathlib.Path, dataset: str, table: int, made: Made
) -> list[pathlib.Path]:
  """Writes DIR/DATASET/tableN.md, .csv and .tex; returns their paths.

  Raises:
    UserError: if one of them cannot be written.
  """
  stem = root / dataset / f"table{table}"
  paths = []
  for suffix, text in made.texts.items():
    path = stem.with_suffix(suffix)
    with files.writing(path):
      path.parent.mkdir(parents=True, exist_ok=True)
      files.write_text(path, text)
    paths.append(path)
  return paths
