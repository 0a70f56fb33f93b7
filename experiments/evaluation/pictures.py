"""Pictures that a run leaves in its directory."""

from collections.abc import Sequence
import pathlib

import matplotlib.colors
import matplotlib.patches
import matplotlib.pyplot as plt
import numpy as np

from adq_jax import Stream
from experiments import style
from experiments.runs.metric_log import read_series


def draw_reconstructions(
  path: pathlib.Path,
  rows: Sequence[tuple[str, np.ndarray]],
  choice: np.ndarray | None = None,
  stream: Stream | None = None,
  bits: np.ndarray | None = None,
) -> None:
  """Draws images above the bits of positions above the choices of positions.

  Args:
    path: the path of the PNG file.
    rows: titles, and versions of n images, uint8 `[n, H, W, C]`, C 1 or 3.
    choice: the choice of each position, int `[n, h, w]`; None where there is no
      choice.
    stream: the stream of the choice, with labels.
    bits: the bits of each position, `[n, h, w]`; None for no such map.
  """
  count = len(rows[0][1])
  num_rows = len(rows) + (bits is not None) + (choice is not None)
  figure, axes = plt.subplots(
    num_rows,
    count,
    figsize=(count + 0.4, 1 + num_rows),
    squeeze=False,
    layout="compressed",
  )
  left = iter(axes)
  for title, images in rows:
    _draw_images(next(left), title, images)
  if bits is not None:
    _draw_bits(figure, next(left), bits)
  if choice is not None:
    _draw_choice(figure, next(left), choice, stream)
  for ax in axes.flat:
    ax.set_xticks([])
    ax.set_yticks([])
  style.save(figure, path)


def _draw_images(
  row: Sequence[plt.Axes], title: str, images: np.ndarray
) -> None:
  """Draws images, grey or in colours."""
  row[0].set_ylabel(title)
  for ax, image in zip(row, images, strict=True):
    if image.shape[-1] == 1:
      ax.imshow(image[..., 0], "gray", vmin=0, vmax=255)
    else:
      ax.imshow(image)


def _draw_bits(
  figure: plt.Figure, row: Sequence[plt.Axes], bits: np.ndarray
) -> None:
  """Draws the bits of each image's positions, and a scale."""
  for ax, values in zip(row, bits, strict=True):
    drawn = ax.imshow(values, style.SEQUENTIAL, vmin=0, vmax=bits.max())
  row[0].set_ylabel("bits")
  figure.colorbar(drawn, ax=row, label="bits", pad=0.01)


def _draw_choice(
  figure: plt.Figure,
  row: Sequence[plt.Axes],
  choice: np.ndarray,
  stream: Stream,
) -> None:
  """Draws the choices of each image's positions, and a legend of colours."""
  colors = [style.color(i) for i in range(stream.alphabet)]
  palette = matplotlib.colors.ListedColormap(colors)
  for ax, values in zip(row, choice, strict=True):
    ax.imshow(values, palette, vmin=-0.5, vmax=stream.alphabet - 0.5)
  row[0].set_ylabel(stream.name)
  figure.legend(
    handles=[
      matplotlib.patches.Patch(color=color, label=label)
      for color, label in zip(colors, stream.labels, strict=True)
    ],
    loc="outside lower center",
    ncols=stream.alphabet,
    frameon=False,
    title=f"{stream.name} that each position chose",
  )


def draw_selection(path: pathlib.Path, stream: Stream, draws: bool) -> None:
  """Draws how often each label of a choice is chosen over training.

  Args:
    path: the path of the PNG file; metrics.jsonl beside it is read.
    stream: the stream of the choice, with labels.
    draws: whether training samples the choice.
  """
  figure, axes = plt.subplots(
    2, 1, figsize=(7, 6), sharex=True, layout="constrained"
  )
  titles = {"train": "training batches", "validation": "validation split"}
  if draws:
    titles = {
      "train": "drawn, in training batches",
      "validation": "largest probability, validation split",
    }
  for ax, (split, title) in zip(axes, titles.items(), strict=True):
    steps, shares = read_series(path.parent, split, "selection")
    for i, label in enumerate(stream.labels):
      ax.plot(
        steps,
        shares.reshape(-1, stream.alphabet)[:, i],
        color=style.color(i),
        marker="." if len(steps) < 50 else None,
        label=label,
      )
    ax.set_title(title)
    ax.set_ylabel("share of positions")
    ax.set_ylim(-0.02, 1.02)
  axes[-1].set_xlabel("step")
  figure.legend(
    handles=axes[0].get_lines(),
    loc="outside right upper",
    title=stream.name,
    frameon=False,
  )
  style.save(figure, path)
