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

from experiments.processes import command

_WORKDIR = flags.DEFINE_string("workdir", None, "DIR, of all the runs.")


def main(argv: Sequence[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f"unknown arguments {argv[1:]}")
  draw(command.path_of(_WORKDIR))


def draw(root: pathlib.Path) -> None:
  """Makes every table and figure that the runs in DIR are enough for."""
  # Imported late, so that a wrong flag is told at once.
  from experiments.study import drawing

  drawing.draw(root)


if __name__ == "__main__":
  flags.mark_flags_as_required(["workdir"])
  command.run(main)
