"""A figure that the paper lacks: losses against the bits they take."""

from collections.abc import Mapping
from collections.abc import Sequence

import matplotlib.pyplot as plt

from experiments import style
from experiments.configs import variants
from experiments.configs.variant_table import Variant
from experiments.study import over_seeds
from experiments.study import series as series_lib
from experiments.study import trials as trials_lib
from experiments.study.series import Series
from experiments.study.trials import Runs
from experiments.study.trials import Trial


def draw(runs: Runs) -> plt.Figure:
  """Validation loss against bits per position, nominal and entropy-coded.

  All runs, and beside them the improved ones alone, if there are any.
  """
  ended = trials_lib.ended(runs)
  known = {name: _variant(trials) for name, trials in ended.items()}
  panels = [series_lib.SERIES]
  if any(series_lib.of(v) in series_lib.IMPROVED for v in known.values()):
    panels.append(series_lib.IMPROVED)
  rates = {
    title: {
      variant: (rate.mean, over_seeds.mean_loss(trials))
      for variant, trials in ended.items()
      if (rate := over_seeds.statistic(trials, name))
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
    for ax, series in zip(row, panels, strict=True):
      labels[ax] = _plot_rates(ax, points, known, series)
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
      {known[name].label or name: point for name, point in points.items()},
    )
  return figure


def _plot_rates(
  ax: plt.Axes,
  points: Mapping[str, tuple[float, float]],
  known: Mapping[str, Variant],
  series: Sequence[Series],
) -> dict[str, tuple[float, float]]:
  """Plots the points (rate, loss) of those variants that are in some series.

  Returns those that should have a text.
  """
  to_label = {}
  for one in series:
    shown = {v: p for v, p in points.items() if series_lib.of(known[v]) is one}
    if not shown:
      continue
    look = style.line(one.number, 1)
    ax.plot(
      *zip(*sorted(shown.values()), strict=True),
      linestyle=one.joined,
      color=look["color"],
      marker=look["marker"],
      label=one.label,
    )
    if one.has_texts:
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


def _variant(trials: Sequence[Trial]) -> Variant:
  return variants.find(trials[0].dataset, trials[0].variant)
