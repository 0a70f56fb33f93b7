"""Rows of a table, checked or measured one after the other, in bounded time.

A row that fails says so, and the others go on.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
import dataclasses
import os
import threading
import time
import traceback
from typing import Any

from experiments.errors import one_line

HELD, MEASURED, FAILED, NOT_RUN = "held", "measured", "FAILED", "not run"
_LONGEST = 90  # seconds that are left when the last row starts
_MOST_LETTERS = 200  # of an error; standard error has all of it


@dataclasses.dataclass
class Row:
  """A row, and how it ended.

  Attributes:
    name: what is checked or measured.
    run: does so; returns figures for the table, or raises what is wrong.
    done: the result where `run` returns: `HELD` or `MEASURED`.
    result: `done`, `FAILED` or `NOT_RUN`.
    figures: what `run` returned, or the error.
    seconds: how long it took.
  """

  name: str
  run: Callable[[], str]
  done: str = HELD
  result: str = NOT_RUN
  figures: str = ""
  seconds: float = 0.0

  def as_cells(self) -> dict[str, Any]:
    """Returns the row's values, by the table's columns."""
    # In a table a bar would begin another cell.
    figures = self.figures.replace("|", "/")
    seconds = "" if self.result == NOT_RUN else f"{self.seconds:.1f}"
    return {
      "row": self.name,
      "result": self.result,
      "figures": figures,
      "s": seconds,
    }


def run_all(
  rows: Sequence[Row],
  seconds: float,
  keep: Callable[[], None],
  end: Callable[[], None],
) -> None:
  """Runs rows in their order, with a line of progress for each.

  No row starts in the last 90 seconds, or the last quarter if that is shorter.
  A row that does not end in time has failed, and this process ends with status
  1.

  Args:
    rows: what to run; their results are set.
    seconds: the time for all of them.
    keep: is called whenever a row has ended.
    end: is called once, when no row will be run any more.
  """
  started, current = time.monotonic(), None

  def expire() -> None:
    if current is not None:
      _fail(current, f"had not ended {seconds:.0f} s after the start of all")
    try:
      end()
    finally:  # what runs may be a compiler, which nothing else would end
      os._exit(1)

  timer = threading.Timer(seconds, expire)
  timer.daemon = True
  timer.start()
  last_start = seconds - min(_LONGEST, seconds / 4)
  for i, row in enumerate(rows):
    began = time.monotonic()
    if began - started > last_start:
      print(f"{len(rows) - i} rows are not run, as time is over", flush=True)
      break
    print(f"[{i + 1}/{len(rows)}] {row.name}", end=" ... ", flush=True)
    current = row
    try:
      row.figures = row.run()
      row.result = row.done
    except Exception as error:
      traceback.print_exc()
      _fail(row, f"{type(error).__name__}: {one_line(error)}")
    row.seconds = time.monotonic() - began
    print(f"{row.result} ({row.seconds:.1f} s) {row.figures}", flush=True)
    keep()
  timer.cancel()
  end()


def _fail(row: Row, why: str) -> None:
  row.result, row.figures = FAILED, why[:_MOST_LETTERS]


def summary(rows: Iterable[Row]) -> str:
  """Returns how many rows ended in which way."""
  results = [row.result for row in rows]
  kinds = (HELD, MEASURED, FAILED, NOT_RUN)
  return ", ".join(
    f"{results.count(kind)} {kind}" for kind in kinds if kind in results
  )
