"""summary.json: the figures of a finished run."""

import dataclasses
import numbers
import pathlib
from typing import Any

from experiments import files
from experiments.runs import run_identity
from experiments.runs import workdir as workdirs

RESULTS_VERSION = "0.1.0"
"""Raised when runs come out differently: tables refuse to mix versions.

It is no version of the package, which every release has a new one of.
"""

# The numbers that tables and figures cannot do without.
_NUMBERS = ("recon_loss_sum", "psnr")
_OF_STREAMS = ("rate_nominal", "usage")  # where there is any
# Of each point of a curve.
_OF_PRICES = ("rate_weight", "rate_nominal", "recon_loss_sum", "psnr")


@dataclasses.dataclass(frozen=True)
class Summary:
  """The summary.json of a run, as it was found.

  Attributes:
    figures: its content; None where there is none that can be used.
    problem: why it cannot be used, "" if it can or there is none.
    is_foreign: whether that is because it is of another run.
  """

  figures: dict[str, Any] | None
  problem: str = ""
  is_foreign: bool = False


def read(workdir: pathlib.Path) -> Summary:
  """Returns what there is of a run's summary.json."""
  path = workdir / workdirs.SUMMARY
  try:
    figures = files.read_json(path)
  except FileNotFoundError:
    return Summary(None)
  except files.UnreadableError as error:
    return Summary(None, str(error))
  lacks = _lacks(figures)
  if lacks:
    return Summary(None, f"{path} is damaged ({lacks})")
  found = figures.get(workdirs.RUN_ID)
  if not run_identity.is_own(found, run_identity.read(workdir)):
    return Summary(None, f"{path} is of another run, {found}", True)
  return Summary(figures)


def read_summary(workdir: pathlib.Path) -> dict[str, Any] | None:
  """Returns summary.json of a run, None where it has none that can be used."""
  return read(workdir).figures


def write_summary(workdir: pathlib.Path, figures: dict[str, Any]) -> None:
  """Writes summary.json; one that is not the run's own is moved aside."""
  path = workdir / workdirs.SUMMARY
  problem = read(workdir).problem
  if problem:
    print(f"{problem}: now {workdirs.move_aside(workdir, path)}")
  files.write_json(path, figures)


def _lacks(summary: Any) -> str:
  """Returns what is wrong with a summary, "" if nothing is."""
  if not isinstance(summary, dict):
    return "it is no JSON object"
  if type(summary.get("steps")) is not int:
    return "steps is no integer"
  has_streams = summary.get("streams") != []
  for name in _NUMBERS + _OF_STREAMS * has_streams:
    if not isinstance(summary.get(name), numbers.Real):
      return f"{name} is no number"
  if "codebooks" not in summary and "streams" not in summary:
    return "codebooks is no list of figures"
  for name in ("codebooks", "streams"):
    rows = summary.get(name, [])
    if not isinstance(rows, list) or not all(
      isinstance(row, dict) and isinstance(row.get("usage"), numbers.Real)
      for row in rows
    ):
      return f"{name} is no list of figures"
  for name in ("drawn", "not_drawn"):
    other = summary.get(name)
    if other is not None and not (
      isinstance(other, dict)
      and isinstance(other.get("recon_loss_sum"), numbers.Real)
    ):
      return f"{name} has no loss"
  if not _is_curve(summary.get("curve", [])):
    return "curve is no list of figures"
  # Old runs lack these.
  for name in ("rate_coded", "recon_loss_first_batch", "ssim"):
    if not isinstance(summary.get(name), numbers.Real | None):
      return f"{name} is no number"
  return ""


def _is_curve(points: Any) -> bool:
  """Returns whether these are the figures of a model at several prices."""
  return isinstance(points, list) and all(
    isinstance(point, dict)
    and all(isinstance(point.get(name), numbers.Real) for name in _OF_PRICES)
    and isinstance(point.get("rate_coded"), numbers.Real | None)
    for point in points
  )
