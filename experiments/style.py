"""How all figures look: readable in print and for the colour-blind."""

from collections.abc import Mapping
import pathlib
from typing import Any

import adjustText
import matplotlib
import matplotlib.pyplot as plt
from matplotlib.transforms import Bbox
import numpy as np

from experiments import files

# Okabe and Ito's colours, which the colour-blind tell apart.
COLORS = (
  "#0072B2",
  "#E69F00",
  "#009E73",
  "#CC79A7",
  "#56B4E9",
  "#D55E00",
  "#F0E442",
  "#000000",
)
SEQUENTIAL = "viridis"  # for numbers: brighter is more, in grey too
# So that lines can be told apart without colours, too.
_DASHES = ("-", "--", "-.", ":")
_MARKERS = "osv^D*PX"


def color(index: int) -> str:
  return COLORS[index % len(COLORS)]


def line(index: int, num_points: int) -> dict[str, Any]:
  """Returns how to plot the line of a series."""
  return {
    "color": color(index),
    "linestyle": _DASHES[index % len(_DASHES)],
    "marker": _MARKERS[index % len(_MARKERS)],
    "markersize": 4,
    # Few, each series at places of its own.
    "markevery": (index % 4, max(num_points // 8, 1)),
    "linewidth": 1.3,
  }


def label_points(
  ax: plt.Axes, labels: Mapping[str, tuple[float, float]]
) -> None:
  """Writes texts near their points, where they cover nothing.

  All else must have been drawn, and scales be set.
  """
  if not labels:
    return
  ax.figure.draw_without_rendering()  # which places the axes
  texts = [ax.text(*point, text, fontsize=6) for text, point in labels.items()]
  points = np.concatenate([line.get_xydata() for line in ax.get_lines()])
  half = 4 * ax.figure.dpi / 72  # of a marker's side, in pixels
  markers = [
    Bbox([point - half, point + half]).transformed(ax.transData.inverted())
    for point in ax.transData.transform(points)
  ]
  adjustText.adjust_text(
    texts,
    objects=markers,
    force_text=(0.2, 0.4),
    force_static=(0.2, 0.4),
    ax=ax,
    iter_lim=500,  # instead of a limit of time: the same texts, the same places
    arrowprops={"arrowstyle": "-", "color": "grey", "linewidth": 0.5},
  )


def save(figure: plt.Figure, path: pathlib.Path, *suffixes: str) -> None:
  """Writes a figure to `path`, with each of the suffixes, and closes it."""
  try:
    for suffix in suffixes or (path.suffix,):
      # Without a date: the same figure, the same file.
      metadata = {"Date": None} if suffix == ".svg" else None
      kind = suffix.removeprefix(".")
      with files.replacing(path.with_suffix(suffix)) as temporary:
        figure.savefig(temporary, dpi=150, metadata=metadata, format=kind)
  finally:
    plt.close(figure)


matplotlib.use("Agg")  # files only, also where there is a display
matplotlib.rcParams.update(
  {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 9,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "adq_jax",  # instead of a random one
  }
)
