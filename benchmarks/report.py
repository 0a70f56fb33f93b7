"""How the benchmarks say what they measured."""

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
    title: what was measured.
    rows: all with the same columns, by name.
    json_file: where to; None for nowhere.
  """
  cells = [list(rows[0]), ["---"] * len(rows[0])]
  cells += [[str(value) for value in row.values()] for row in rows]
  print(f"{title}\n")
  for row in cells:
    print(f"| {' | '.join(row)} |")
  if json_file:
    record = {
      "title": title,
      "machine": f"{os.cpu_count()} x {platform.machine()}",
      "jax": jax.__version__,
      "backend": jax.default_backend(),
      "rows": rows,
    }
    pathlib.Path(json_file).write_text(json.dumps(record, indent=2) + "\n")
