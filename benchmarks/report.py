"""Tables and JSON files of the benchmarks."""

from collections.abc import Mapping
from collections.abc import Sequence
import json
import os
import pathlib
import platform
from typing import Any

import jax


def show(
  title: str, rows: Sequence[Mapping[str, Any]], json_file: str | None
) -> None:
  """Prints rows as a Markdown table, and writes them to a JSON file.

  Args:
    title: of the table.
    rows: values by column, with the same columns in every row.
    json_file: the file to write; None: no file.
  """
  _print(title, rows)
  _write({"title": title, "rows": rows}, json_file)


def show_all(
  tables: Mapping[str, Sequence[Mapping[str, Any]]], json_file: str | None
) -> None:
  """Prints several tables as Markdown, and writes them to one JSON file.

  Args:
    tables: the rows of each table, by its title.
    json_file: the file to write; None: no file.
  """
  for title, rows in tables.items():
    _print(title, rows)
    print()
  records = [{"title": title, "rows": rows} for title, rows in tables.items()]
  _write({"tables": records}, json_file)


def _print(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
  cells = [list(rows[0]), ["---"] * len(rows[0])]
  cells += [[str(value) for value in row.values()] for row in rows]
  print(f"{title}\n")
  for row in cells:
    print(f"| {' | '.join(row)} |")


def _write(figures: Mapping[str, Any], json_file: str | None) -> None:
  if json_file is None:
    return
  record = {
    "machine": f"{os.cpu_count()} x {platform.machine()}",
    "jax": jax.__version__,
    "backend": jax.default_backend(),
    **figures,
  }
  pathlib.Path(json_file).write_text(json.dumps(record, indent=2) + "\n")
