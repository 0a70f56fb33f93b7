"""Tables and JSON files of the benchmarks."""

from collections.abc import Mapping
from collections.abc import Sequence
import json
import os
import pathlib
import platform
from typing import Any

from absl import flags
import jax

_JSON = flags.DEFINE_string("json", None, "File for the figures.")


def show(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
  """Prints rows as a Markdown table, and writes them to the file of --json.

  Args:
    title: of the table.
    rows: values by column, with the same columns in every row.
  """
  print(markdown(title, rows))
  _write({"title": title, "rows": rows})


def show_all(tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
  """Prints several tables as Markdown, and writes them to the file of --json.

  Args:
    tables: the rows of each table, by its title.
  """
  for title, rows in tables.items():
    print(markdown(title, rows))
    print()
  records = [{"title": title, "rows": rows} for title, rows in tables.items()]
  _write({"tables": records})


def markdown(title: str, rows: Sequence[Mapping[str, Any]]) -> str:
  """Returns rows as a Markdown table under its title.

  Args:
    title: of the table.
    rows: values by column, with the same columns in every row.
  """
  cells = [list(rows[0]), ["---"] * len(rows[0])]
  cells += [[str(value) for value in row.values()] for row in rows]
  lines = [f"| {' | '.join(row)} |" for row in cells]
  return "\n".join([title, "", *lines])


def _write(figures: Mapping[str, Any]) -> None:
  if _JSON.value is None:
    return
  record = {
    "machine": f"{os.cpu_count()} x {platform.machine()}",
    "jax": jax.__version__,
    "backend": jax.default_backend(),
    **figures,
  }
  pathlib.Path(_JSON.value).write_text(json.dumps(record, indent=2) + "\n")
