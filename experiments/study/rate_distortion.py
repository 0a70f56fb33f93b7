"""A figure that the paper lacks: losses against the bits they take."""

from collections.abc import Sequence

import matplotlib.pyplot as plt

from experiments import style
from experiments.configs import variants
from experiments.study import curves
from experiments.study import families as families_lib
from experiments.study import trials as trials_lib
from experiments.study.curves import Point
from experiments.study.families import Family
from experiments.study.trials import Runs


def draw(runs: Runs) -> plt.Figure:
  """Validation loss against bits per position, nominal and entropy-coded.

  All runs, and beside them those alone that are joined by lines, if there are
  any.  The legend has BD-rates.
  """
  families = families_lib.find(trials_lib.ended(runs))
  panels = [families]
  if joined := [family for family in families if family.series.joined]:
    panels.append(joined)
  rates = {
    rate: title
    for rate, title in curves.RATES.items()
    if any(family.points[rate] for family in families)
  }
  figure, axes = plt.subplots(
    len(rates),
    len(panels),
    figsize=(1 + 5 * len(panels), 0.5 + 3.5 * len(rates)),
    squeeze=False,
    layout="constrained",
  )
  labels = {}
  for row, (rate, title) in zip(axes, rates.items(), strict=True):
    for ax, shown in zip(row, panels, strict=True):
      labels[ax] = _plot(ax, rate, shown)
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
      ax,
      {_text(runs, v): (point.rate, point.loss) for v, point in points.items()},
    )
  return figure


def _plot(
  ax: plt.Axes, rate: str, families: Sequence[Family]
) -> dict[str, Point]:
  """Plots the points of families.

  Returns those that should have a text, by variant.
  """
  to_label = {}
  for family in families:
    of_each, series = family.points[rate], family.series
    if not of_each:
      continue
    points = [point for points in of_each.values() for point in points]
    points.sort(key=lambda point: (point.rate, point.loss))
    look = style.line(series.number, 1)
    ax.plot(
      [point.rate for point in points],
      [point.loss for point in points],
      linestyle=series.joined,
      color=look["color"],
      marker=look["marker"],
      label=_label(family),
    )
    if series.has_texts:
      to_label |= {variant: point for variant, (point,) in of_each.items()}
  ax.margins(0.1)
  ax.set_xlabel("bits per position")
  return to_label


def _text(runs: Runs, variant: str) -> str:
  """Returns the text of a variant's point."""
  return variants.find(runs[variant][0].dataset, variant).label or variant


def _label(family: Family) -> str:
  """Returns a name for the legend, with the BD-rates that there are."""
  found = {
    curves.RATES[rate]: comparison.percent
    for rate, comparison in family.comparisons.items()
    if comparison.percent is not None
  }
  if not found:
    return family.series.label
  percents = (f"{percent:+.1f}% {title}" for title, percent in found.items())
  return f"{family.series.label}\n(BD-rate {', '.join(percents)})"


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
