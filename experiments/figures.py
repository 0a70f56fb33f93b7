"""Tables, figures, and a page with all of them, from the files of runs.

python -m experiments.figures --workdir=DIR

DIR is that of `experiments.tables`, whose runs need not have ended.  Figures
go to DIR/figures, as SVG and PNG, tables to DIR/DATASET; DIR/report.html holds
all.
"""

from collections.abc import Sequence
import pathlib

from absl import app
from absl import flags

from experiments import command
from experiments import errors

_WORKDIR = flags.DEFINE_string("workdir", None, "DIR, of all the runs.")


def main(argv: Sequence[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f"unknown arguments {argv[1:]}")
  draw(command.path_of(_WORKDIR))


def draw(root: pathlib.Path) -> None:
  """Makes every table and figure that the runs in DIR are enough for.

  Raises:
    UserError: if there are no runs; after all else, if runs that belong
      together differ, whose tables and figures are then left out.
  """
  from experiments import cells as cells_lib
  from experiments import contents
  from experiments import page
  from experiments import plots
  from experiments import rendering
  from experiments import style

  drawn: dict[str, list[str]] = {}
  problems = []

  def save(dataset: str, name: str, figure) -> None:
    style.save(figure, root / "figures" / name, ".svg", ".png")
    drawn.setdefault(dataset, []).append(name)
    print(root / "figures" / f"{name}.svg")

  def is_grey(dataset: str) -> bool:
    return cells_lib.default_config(dataset, "adaptive").data.channels == 1

  datasets, tables = {}, {}
  for dataset in cells_lib.find_datasets(root):
    cells = cells_lib.find_cells(root, dataset)
    tables[dataset], shown = [], set()
    for table in contents.TITLES:
      try:
        rows = rendering.make_rows(root, dataset, table, seeds=(0,))
      except errors.UserError as error:
        problems.append(f"no table {table} of {dataset}: {error}")
        continue
      told = {row.variant for row in rows if row.cells or row.has_failed}
      # One that only repeats rows of those before says nothing.
      if told - shown:
        rendering.write(root, dataset, table, rows)
        tables[dataset].append(rendering.markdown(dataset, table, rows))
      shown |= told
    try:
      cells_lib.check_alike(cells)
    except errors.UserError as error:
      problems.append(f"no figures of {dataset}: {error}")
      continue
    runs = {}
    for cell in sorted(cells, key=lambda cell: (not cell.summary, cell.seed)):
      if cell.steps:
        runs.setdefault(cell.variant, []).append(cell)
    datasets[dataset] = runs
    for plot in plots.PLOTS:
      lacks = plot.lacks(runs)
      is_sixth = plot.name == "figure3" and is_grey(dataset)
      name = "figure6" if is_sixth else plot.name
      if lacks:
        print(f"{name} of {dataset}: left out, {lacks}")
      else:
        save(dataset, f"{name}_{dataset}", plot.draw(runs))
  some = {d: runs for d, runs in datasets.items() if plots.fixed(runs)}
  if some:
    save("", "figure7", plots.gradient_gaps(some))
    save("", "figure9", plots.comparison(some))
  grey = {dataset: runs for dataset, runs in some.items() if is_grey(dataset)}
  if grey:
    save("", "figure8", plots.gaps_without_start(grey))
  path = root / "report.html"
  path.write_text(page.make(root, tables, drawn, problems))
  print(path)
  if problems:
    raise errors.UserError("; ".join(problems))


if __name__ == "__main__":
  flags.mark_flags_as_required(["workdir"])
  command.run(main)
