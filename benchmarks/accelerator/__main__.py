"""Checks and times the library on an accelerator, in eight minutes at most.

python -m benchmarks.accelerator --out=FILE.md

It takes the first accelerator that JAX has, and compares it with the CPU of the
same process:

- every search method with float64: ties, points far from the origin, NaN,
  penalties;
- the fused kernel with the scan, for the paper's pool;
- a training step of each config file, on random images.  Matrix products are
  float32 on both; what JAX's default precision changes is told beside it;
- every quantizer with its program in float64: codes, ties, offsets, NaN, a
  training step.

In between it times the search of the pool, a training step, and encoding.  The
table says what held.  It is printed, and written to --out after every row.
Rows for which no time was left say "not run", and --rows can take them alone.
The exit status is 1 if a row failed.

On a CPU it says that there is no accelerator, and checks itself in small.
"""

from collections.abc import Iterator
import pathlib
import re
import sys

from absl import app
from absl import flags
import jax

from benchmarks import report
from benchmarks.accelerator import quantizers
from benchmarks.accelerator import rows as rows_lib
from benchmarks.accelerator import search
from benchmarks.accelerator import steps
from benchmarks.accelerator import timings

_MINUTES = flags.DEFINE_float("minutes", 8, "The time for all rows.", 0)
_ROWS = flags.DEFINE_string("rows", "", "Expression that names of rows have.")
_OUT = flags.DEFINE_string("out", None, "File for the table.")


def main(argv: list[str]) -> int:
  if len(argv) > 1:
    raise app.UsageError(f"unknown arguments {argv[1:]}")
  device = jax.devices()[0]
  is_small = device.platform == "cpu"
  rows = [
    row
    for row in _rows(device, _host(), is_small)
    if re.search(_ROWS.value, row.name)
  ]
  if not rows:
    raise app.UsageError(f"--rows is {_ROWS.value!r}, which no row's name has")
  name = f"{device.device_kind} ({device.platform})"
  if is_small:
    name = "No accelerator: the checks themselves, in small, on a CPU"
  print(f"{name}\n", flush=True)

  def keep() -> None:
    if _OUT.value is not None:
      text = report.markdown(_title(name, rows), _cells(rows))
      pathlib.Path(_OUT.value).write_text(text + "\n")

  def end() -> None:
    keep()
    print()
    report.show(_title(name, rows), _cells(rows))
    sys.stdout.flush()  # the process may end at once

  try:
    keep()
  except OSError as error:
    raise app.UsageError(f"--out cannot be written: {error}") from error
  rows_lib.run_all(rows, 60 * _MINUTES.value, keep, end)
  return int(any(row.result == rows_lib.FAILED for row in rows))


def _host() -> jax.Device:
  """Returns the CPU that the accelerator is compared with."""
  try:
    return jax.devices("cpu")[0]
  except RuntimeError as error:
    raise app.UsageError(
      f"JAX has no CPU beside the accelerator ({error}); add cpu to"
      " JAX_PLATFORMS, as in JAX_PLATFORMS=cuda,cpu"
    ) from error


def _rows(
  device: jax.Device, host: jax.Device, is_small: bool
) -> Iterator[rows_lib.Row]:
  """Yields all rows; the later ones are those to miss if time is short."""
  yield from search.rows(device, is_small=is_small)
  yield from search.kernel_rows(device, is_small=is_small)
  first, *others = steps.rows(device, host, is_small=is_small)
  yield first
  yield from timings.rows(device, is_small=is_small)
  yield from quantizers.rows(device, host, is_small=is_small)
  yield from others


def _title(name: str, rows: list[rows_lib.Row]) -> str:
  return f"{name}, JAX {jax.__version__}: {rows_lib.summary(rows)}"


def _cells(rows: list[rows_lib.Row]) -> list[dict[str, str]]:
  return [row.as_cells() for row in rows]


if __name__ == "__main__":
  app.run(main)
