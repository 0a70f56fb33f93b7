"""Figures 2 to 9 of the paper, and more, from runs' files."""

from collections.abc import Mapping
from collections.abc import Sequence

import matplotlib.image
import matplotlib.pyplot as plt
import numpy as np

from adq_jax import optimal_codebook_size
from adq_jax import Stream
from experiments import style
from experiments.configs import variants
from experiments.errors import one_line
from experiments.errors import UserError
from experiments.model import build
from experiments.study import over_seeds
from experiments.study import paper
from experiments.study import trials as trials_lib
from experiments.study.trials import Runs
from experiments.study.trials import Trial

_FINAL = 0.1  # share of training whose mean is a final gradient gap
_SKIPPED = 1000  # updates that figure 8 leaves out, as the paper does


def fixed(runs: Runs) -> dict[str, Sequence[Trial]]:
  """Returns the runs with one codebook of the paper's pool, by falling D."""
  return {name: runs[name] for name in paper.TABLE_1 if name in runs}


def gap_and_loss(runs: Runs) -> plt.Figure:
  """Figure 2: gradient gap and quantization loss of fixed codebooks."""
  figure, axes = _row(2)
  lines = _plot_fixed(axes[0], runs, "gradient_gap")
  lines |= _plot_fixed(axes[1], runs, "quantization_error")
  axes[0].set_ylabel("gradient gap")
  axes[1].set_ylabel("quantization loss")
  axes[1].set_yscale("log")
  _legend_beside(figure, _in_order(lines))
  return figure


def gradient_gaps(
  datasets: Mapping[str, Runs], first_step: int = 0
) -> plt.Figure:
  """Figures 7 and 8: gradient gap of fixed codebooks, a panel a data set."""
  figure, axes = _row(len(datasets))
  lines = {}
  for ax, (name, runs) in zip(axes, datasets.items(), strict=True):
    lines |= _plot_fixed(ax, runs, "gradient_gap", first_step)
    ax.set_title(name)
  axes[0].set_ylabel("gradient gap")
  _legend_beside(figure, _in_order(lines))
  return figure


def gaps_without_start(datasets: Mapping[str, Runs]) -> plt.Figure:
  """Figure 8, which leaves the first 1,000 updates out."""
  return gradient_gaps(datasets, _SKIPPED)


def selection(runs: Runs) -> plt.Figure:
  """Figures 3 and 6: how often each codebook is chosen over training."""
  figure, (ax,) = _row(1)
  trial = runs["adaptive"][0]
  steps, shares = trial.series("train", "selection")
  for i, name in enumerate(_pool(trial)):
    ax.plot(steps, shares[:, i], label=name, **style.line(i, len(steps)))
  ax.set_ylabel("share of positions, drawn")
  _legend_beside(figure, ax.get_lines())
  return figure


def comparison(datasets: Mapping[str, Runs]) -> plt.Figure:
  """Figures 4 and 9: fixed codebooks and the pool, a row a data set.

  The fixed codebooks with the smallest final gradient gap and with the
  smallest validation loss; of the pool, the mean quantization loss of its
  codebooks, and their range.
  """
  figure, axes = plt.subplots(
    len(datasets),
    2,
    figsize=(9, 2.9 * len(datasets)),
    squeeze=False,
    layout="constrained",
  )
  for row, (name, runs) in zip(axes, datasets.items(), strict=True):
    shown, candidates = {}, fixed(trials_lib.ended(runs)) or fixed(runs)
    for role, find in (
      ("smallest gap", _final_gap),
      ("best fixed", over_seeds.mean_loss),
    ):
      known = {v: find(trials) for v, trials in candidates.items()}
      known = {v: value for v, value in known.items() if np.isfinite(value)}
      if known:
        variant = min(known, key=known.get)
        shown[f"{role}: {_title(runs[variant])}"] = runs[variant][0]
    if "adaptive" in runs:
      shown["adaptive"] = runs["adaptive"][0]
    for i, (label, trial) in enumerate(shown.items()):
      steps, gaps = trial.series("train", "gradient_gap")
      look = style.line(_COMPARED[i], len(steps))
      row[0].plot(steps, gaps, label=label, **look)
      steps, losses = trial.series("train", "quantization_error")
      losses = losses.reshape(len(steps), -1)
      look = style.line(_COMPARED[i], len(steps))
      row[1].plot(steps, losses.mean(axis=1), label=label, **look)
      if losses.shape[1] > 1:
        low, high = losses.min(axis=1), losses.max(axis=1)
        row[1].fill_between(steps, low, high, color=look["color"], alpha=0.15)
    row[0].set_title(name, loc="left")
    row[0].set_ylabel("gradient gap")
    row[1].set_ylabel("quantization loss")
    row[1].set_yscale("log")
    row[1].legend(fontsize=7)
    for ax in row:
      ax.set_xlabel("update")
  return figure


_COMPARED = (0, 1, 5)  # blue, yellow and red, as in the paper


def reconstructions(runs: Runs) -> plt.Figure:
  """Figure 5: originals and reconstructions, as the run has drawn them."""
  trial = trials_lib.ended(runs)["adaptive"][0]
  path = trial.workdir / "reconstructions.png"
  try:
    picture = matplotlib.image.imread(path)
  except (OSError, SyntaxError, ValueError) as error:
    raise UserError(f"{path} cannot be read ({one_line(error)})") from error
  height, width = picture.shape[:2]
  figure = plt.figure(figsize=(9, 9 * height / width))
  ax = figure.add_axes((0, 0, 1, 1))
  ax.imshow(picture)
  ax.set_axis_off()
  return figure


def loss_against_size(runs: Runs) -> plt.Figure:
  """Validation loss against N at constant N x D, and eqs. 11-15 through it."""
  ended = trials_lib.ended(fixed(runs))
  sizes = np.array(
    [_codebooks(trials[0])[0].alphabet for trials in ended.values()]
  )
  losses = np.array([over_seeds.mean_loss(trials) for trials in ended.values()])
  fits = optimal_codebook_size(sizes, losses)
  figure, (ax,) = _row(1)
  ax.plot(sizes, losses, "o", color=style.color(7), label="measured")
  dataset = next(iter(ended.values()))[0].dataset
  numbers = [paper.number(1, dataset, variant) for variant in ended]
  if None not in numbers:
    ax.plot(sizes, numbers, "x", color="grey", label="paper")
  grid = np.geomspace(sizes.min(), sizes.max(), 200)
  for i, (name, fit) in enumerate(
    (
      ("a / N + b N", fits.fit),
      ("a / N + b N + c", fits.fit_with_constant),
    )
  ):
    label = f"{name}: $R^2$ = {fit.r_squared:.2f}"
    if np.isfinite(fit.optimal_size):
      label += f", optimum N = {fit.optimal_size:,.0f}"
    look = {**style.line(i, len(grid)), "marker": ""}
    ax.plot(grid, fit(grid), label=label, **look)
    if sizes.min() <= fit.optimal_size <= sizes.max():
      ax.axvline(fit.optimal_size, color=style.color(i), alpha=0.4)
  ax.set_xscale("log", base=2)
  ax.set_xlabel("N, at N x D = 65,536")
  ax.set_ylabel("recon_loss_sum")
  figure.legend(loc="outside upper center", ncols=2)
  return figure


def usage(runs: Runs) -> plt.Figure:
  """Share of codewords used on the validation split, of each codebook."""
  figure, (ax,) = _row(1)
  ended = trials_lib.ended(runs)
  bars = {
    "fixed": {
      _title(trials): over_seeds.mean(trials, "usage")
      for trials in fixed(ended).values()
    }
  }
  if "adaptive" in ended:
    trials = ended["adaptive"]
    shares = [
      [book["usage"] for book in trial.summary["codebooks"]] for trial in trials
    ]
    bars["adaptive, by the points that chose it"] = dict(
      zip(_pool(trials[0]), np.mean(shares, axis=0), strict=True)
    )
  names = list(
    dict.fromkeys(name for shares in bars.values() for name in shares)
  )
  for i, (label, values) in enumerate(bars.items()):
    places = [names.index(name) + 0.4 * i - 0.2 for name in values]
    ax.bar(
      places,
      [100 * value for value in values.values()],
      0.38,
      color=style.color((0, 5)[i]),
      hatch=("", "//")[i],
      edgecolor="white",
      label=label,
    )
  ax.set_xticks(range(len(names)), names, rotation=30)
  ax.set_xlabel("codebook [N,D]")
  # A handful of many is far from none.
  ax.set_yscale("log")
  ax.set_ylim(0.001, 100)
  ax.yaxis.set_major_formatter("{x:g}")
  ax.set_ylabel("codewords used, %")
  figure.legend(loc="outside upper center", ncols=2)
  return figure


def _row(count: int, **kwargs) -> tuple[plt.Figure, Sequence[plt.Axes]]:
  """Makes a row of panels over training; a caller may change the x axis."""
  figure, axes = plt.subplots(
    1,
    count,
    figsize=(max(4 * count + 1, 6.5), 3.2),
    squeeze=False,
    layout="constrained",
    **kwargs,
  )
  for ax in axes[0]:
    ax.set_xlabel("update")
  return figure, axes[0]


def _plot_fixed(
  ax: plt.Axes, runs: Runs, name: str, first_step: int = 0
) -> dict[int, plt.Line2D]:
  """Plots a quantity over training, a line a structure.

  Returns:
    The lines by their places among the structures of the paper's pool.
  """
  lines = {}
  for variant, trials in fixed(runs).items():
    steps, values = trials[0].series("train", name)
    shown = steps > first_step
    place = list(paper.TABLE_1).index(variant)
    (lines[place],) = ax.plot(
      steps[shown],
      values[shown],
      label=_title(trials),
      **style.line(place, int(shown.sum())),
    )
  return lines


def _in_order(lines: Mapping[int, plt.Line2D]) -> list[plt.Line2D]:
  return [lines[place] for place in sorted(lines)]


def _title(trials: Sequence[Trial]) -> str:
  """Returns the title of the variant of some runs."""
  return variants.find(trials[0].dataset, trials[0].variant).title


def _legend_beside(figure: plt.Figure, lines: Sequence[plt.Line2D]) -> None:
  figure.legend(
    handles=lines, loc="outside right upper", title="codebook [N,D]"
  )


def _codebooks(trial: Trial) -> list[Stream]:
  """Returns the streams of a run's model that name codewords."""
  streams = build.create_model(trial.config).streams
  return [stream for stream in streams if stream.width]


def _pool(trial: Trial) -> list[str]:
  return [stream.title for stream in _codebooks(trial)]


def _final_gap(trials: Sequence[Trial]) -> float:
  steps, gaps = trials[0].series("train", "gradient_gap")
  if not len(steps):
    return float("nan")
  return float(gaps[steps >= (1 - _FINAL) * steps[-1]].mean())
