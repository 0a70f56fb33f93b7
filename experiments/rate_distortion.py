"""What a loss costs in bits: a figure that the paper lacks."""

from collections.abc import Collection
from collections.abc import Mapping

import matplotlib.pyplot as plt

from experiments import cells as cells_lib
from experiments import paper
from experiments import style
from experiments.cells import Runs
from experiments.configs.variants import fixed_structure


def draw(runs: Runs) -> plt.Figure:
  """Validation loss against bits per position, nominal and entropy-coded.

  All runs, and beside them the improved ones alone, if there are any.
  """
  ended = cells_lib.ended(runs)
  panels = [tuple(_KINDS)]
  if any(_kind(variant) in _IMPROVED for variant in ended):
    panels.append(_IMPROVED)
  rates = {
    title: {
      variant: (rate.mean, cells_lib.mean_loss(cells))
      for variant, cells in ended.items()
      if (rate := cells_lib.statistic(cells, name))
    }
    for name, title in _RATES.items()
  }
  rates = {title: points for title, points in rates.items() if points}
  figure, axes = plt.subplots(
    len(rates),
    len(panels),
    figsize=(1 + 5 * len(panels), 0.5 + 3.5 * len(rates)),
    squeeze=False,
    layout="constrained",
  )
  labels = {}
  for row, (title, points) in zip(axes, rates.items(), strict=True):
    for ax, kinds in zip(row, panels, strict=True):
      labels[ax] = _plot_rates(ax, points, kinds)
      ax.set_title(title)
    if len(panels) > 1:  # beside them they have texts
      for variant in labels[row[1]]:
        del labels[row[0]][variant]
    _log_where_wide(row[0])
    row[0].set_ylabel("recon_loss_sum")
  figure.legend(
    *axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3
  )
  for ax, points in labels.items():
    style.label_points(
      ax, {_short_name(variant): point for variant, point in points.items()}
    )
  return figure


def _plot_rates(
  ax: plt.Axes,
  points: Mapping[str, tuple[float, float]],
  kinds: Collection[str],
) -> dict[str, tuple[float, float]]:
  """Plots the points (rate, loss) of those variants that are of some kinds.

  Returns those that should have a text.
  """
  to_label = {}
  for kind in kinds:
    label, number, joined = _KINDS[kind]
    shown = {v: point for v, point in points.items() if _kind(v) == kind}
    if not shown:
      continue
    look = style.line(number, 1)
    ax.plot(
      *zip(*sorted(shown.values()), strict=True),
      linestyle=joined,
      color=look["color"],
      marker=look["marker"],
      label=label,
    )
    if kind != "table 3":  # many, near each other; the table has them
      to_label |= shown
  ax.margins(0.1)
  ax.set_xlabel("bits per position")
  return to_label


def _log_where_wide(ax: plt.Axes) -> None:
  """An index of each codebook takes many times the bits of a single one."""
  x_range, y_range = ax.dataLim.intervalx, ax.dataLim.intervaly
  if x_range[1] > _WIDE * x_range[0]:
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter("{x:g}")
  if y_range[1] > _WIDE * y_range[0]:
    ax.set_yscale("log", base=2)
    ax.yaxis.set_major_formatter("{x:g}")


_WIDE = 4  # times its smallest value: a linear axis would crowd the small ones
_RATES = {"rate_nominal": "nominal", "rate_coded": "entropy-coded"}
# Of variants: what a legend calls it, its colour, and how points are joined.
_KINDS = {
  "fixed": ("fixed", 0, ""),
  "adaptive": ("adaptive", 5, ""),
  "improved_fixed": ("fixed, improved", 4, ":"),
  "improved": ("adaptive, improved, by price of bits", 2, "-"),
  "table 3": ("adaptive, variants of table 3", 7, ""),
  "other": ("adaptive, other variants", 3, ""),
}
_IMPROVED = ("improved_fixed", "improved")


def _kind(variant: str) -> str:
  improved = "improved_" if variant.startswith("improved") else ""
  if fixed_structure(variant):
    return f"{improved}fixed"
  if variant == "improved" or variant.startswith("improved_rate_"):
    return "improved"
  if variant == "adaptive":
    return variant
  return "table 3" if variant in paper.TABLE_3 else "other"


def _short_name(variant: str) -> str:
  structure = fixed_structure(variant)
  if structure:
    return ",".join(map(str, structure))
  return variant.removeprefix("improved_").removeprefix("adaptive_")
