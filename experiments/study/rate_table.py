"""The table of BD-rates: each family beside fixed codebooks."""

from collections.abc import Sequence
import csv
import io
import pathlib

from experiments.configs import variants
from experiments.study import comparable
from experiments.study import contents
from experiments.study import curves
from experiments.study import families as families_lib
from experiments.study import grid as grid_lib
from experiments.study import trials as trials_lib
from experiments.study.families import Family

_NONE = "-"
_COLUMNS = (
  "",
  "against",
  "points",
  "bits/position",
  "PSNR (dB)",
  "BD-rate",
  "entropy-coded",
  "its PSNR (dB)",
  "its BD-rate",
  "seeds",
)


def make(root: pathlib.Path, dataset: str) -> list[Family]:
  """Returns the families that have references, of all finished runs in DIR.

  Raises:
    UserError: if the runs are not of one kind.
  """
  runs = {}
  for trial in trials_lib.find_trials(root, dataset):
    if not trial.config_problem():
      runs.setdefault(trial.variant, []).append(trial)
  families = [
    family
    for family in families_lib.find(trials_lib.ended(runs))
    if family.series.reference
  ]
  comparable.check_alike(
    trial
    for family in families
    for of_one in (family.runs, family.references)
    for trials in of_one.values()
    for trial in trials
  )
  return families


def markdown(dataset: str, table: int, families: Sequence[Family]) -> str:
  """Returns the table in Markdown, the smallest coded BD-rate in bold."""
  return grid_lib.markdown(_grid(dataset, table, families))


def latex(dataset: str, table: int, families: Sequence[Family]) -> str:
  """Returns the table in LaTeX, to be read with the package booktabs."""
  return grid_lib.latex(_grid(dataset, table, families))


def comma_separated(families: Sequence[Family]) -> str:
  """Returns the table as CSV: figures in full, missing ones empty."""
  text = io.StringIO()
  writer = csv.writer(text, lineterminator="\n")
  heads = ["family", "against", "points", "seeds"]
  for rate in curves.RATES:
    heads += [f"{rate}_from", f"{rate}_to", f"{rate}_psnr_from"]
    heads += [f"{rate}_psnr_to", f"{rate}_bd_rate", f"{rate}_problem"]
  writer.writerow(heads)
  for family in families:
    cells = [family.series.label, _reference(family), _points(family)]
    cells.append(_seeds(family))
    for rate in curves.RATES:
      found = family.comparisons[rate]
      numbers = [*_extent(family, rate), *(found.psnr or (None, None))]
      numbers.append(found.percent)
      cells += ["" if x is None else f"{x:.6g}" for x in numbers]
      cells.append(found.problem)
    writer.writerow(cells)
  return text.getvalue()


def shown(families: Sequence[Family]) -> frozenset[str]:
  """Returns the names of families that have a BD-rate."""
  return frozenset(
    family.series.label
    for family in families
    if any(found.psnr for found in family.comparisons.values())
  )


def _grid(
  dataset: str, table: int, families: Sequence[Family]
) -> grid_lib.Grid:
  coded = {
    i: percent
    for i, family in enumerate(families)
    if (percent := family.comparisons["rate_coded"].percent) is not None
  }
  best = min(coded, key=coded.get, default=None)
  return grid_lib.Grid(
    _caption(dataset, table, families),
    _COLUMNS,
    [_texts(family) for family in families],
    None if best is None else (best, _COLUMNS.index("its BD-rate")),
  )


def _texts(family: Family) -> list[str]:
  """Returns the texts of a row."""
  texts = [family.series.label, _reference(family), str(_points(family))]
  for rate in curves.RATES:
    found = family.comparisons[rate]
    texts.append(_range(*_extent(family, rate)))
    texts.append(_range(*(found.psnr or (None, None))))
    texts.append(_NONE if found.problem else f"{found.percent:+.1f}%")
  return [*texts, _seeds(family)]


def _range(low: float | None, high: float | None) -> str:
  return _NONE if low is None else f"{low:.2f} to {high:.2f}"


def _extent(family: Family, rate: str) -> tuple[float | None, float | None]:
  """Returns the fewest and the most bits per position of a family."""
  rates = [p.rate for points in family.points[rate].values() for p in points]
  return (min(rates), max(rates)) if rates else (None, None)


def _points(family: Family) -> int:
  return sum(map(len, family.points["rate_nominal"].values()))


def _seeds(family: Family) -> str:
  """Returns the number of seeds, or from which number to which."""
  counts = {len(trials) for trials in family.runs.values()}
  return " to ".join(map(str, sorted({min(counts), max(counts)})))


def _reference(family: Family) -> str:
  """Returns what a family is compared with."""
  labels = [
    f"[{variants.find(trials[0].dataset, name).label}]"
    for name, trials in family.references.items()
  ]
  return ", ".join(labels) or _NONE


def _caption(dataset: str, table: int, families: Sequence[Family]) -> str:
  title = contents.TABLES[table].title
  trained = comparable.describe(
    trial
    for family in families
    for trials in family.runs.values()
    for trial in trials
  )
  problems = dict.fromkeys(
    f"; {family.series.label} has no BD-rate: {found.problem}"
    for family in families
    for rate in curves.RATES
    if (found := family.comparisons[rate]).problem
  )
  return f"Table {table}: {title}, {dataset}{trained}{''.join(problems)}"
