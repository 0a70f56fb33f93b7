"""Pictures that a run leaves in its directory."""

from collections.abc import Sequence
import pathlib

import matplotlib
import matplotlib.colors
import matplotlib.patches
import matplotlib.pyplot as plt
import numpy as np

from experiments.logging import read_metrics

# Okabe and Ito's colours, which the colour-blind tell apart.
_COLORS = (
  "#0072B2",
  "#E69F00",
  "#009E73",
  "#CC79A7",
  "#56B4E9",
  "#D55E00",
  "#F0E442",
  "#000000",
)


def _color(index: int) -> str:
  return _COLORS[index % len(_COLORS)]


def structure_name(structure: tuple[int, int]) -> str:
  """Returns the paper's notation, "[512,128]"."""
  return f"[{structure[0]},{structure[1]}]"


def draw_reconstructions(
  path: pathlib.Path,
  originals: np.ndarray,
  reconstructions: np.ndarray,
  books: np.ndarray,
  structures: Sequence[tuple[int, int]],
) -> None:
  """Draws originals above reconstructions above the choice of codebooks.

  Args:
    path: of the PNG file.
    originals: uint8 `[n, H, W, C]`, C 1 or 3.
    reconstructions: the same shape.
    books: the codebook that each position chose, int `[n, h, w]`.
    structures: (N, D) of each codebook.
  """
  count = len(originals)
  figure, axes = plt.subplots(
    3,
    count,
    figsize=(count + 0.4, 4),
    squeeze=False,
    layout="compressed",
  )
  colors = [_color(i) for i in range(len(structures))]
  palette = matplotlib.colors.ListedColormap(colors)
  for column in range(count):
    for row, images in enumerate((originals, reconstructions)):
      image = images[column]
      if image.shape[-1] == 1:
        axes[row, column].imshow(image[..., 0], "gray", vmin=0, vmax=255)
      else:
        axes[row, column].imshow(image)
    axes[2, column].imshow(
      books[column], palette, vmin=-0.5, vmax=len(structures) - 0.5
    )
  for row, title in enumerate(("original", "reconstruction", "codebook")):
    axes[row, 0].set_ylabel(title)
  for ax in axes.flat:
    ax.set_xticks([])
    ax.set_yticks([])
  figure.legend(
    handles=[
      matplotlib.patches.Patch(color=color, label=structure_name(s))
      for color, s in zip(colors, structures, strict=True)
    ],
    loc="outside lower center",
    ncols=len(structures),
    frameon=False,
    title="codebook [N,D] that each position chose",
  )
  _save(figure, path)


def draw_selection(
  path: pathlib.Path, structures: Sequence[tuple[int, int]]
) -> None:
  """Draws how often each codebook was chosen over training.

  Args:
    path: of the PNG file, in a run's directory; its metrics.jsonl is read.
    structures: (N, D) of each codebook.
  """
  figure, axes = plt.subplots(
    2, 1, figsize=(7, 6), sharex=True, layout="constrained"
  )
  titles = {
    "train": "drawn, in training batches",
    "validation": "largest probability, validation split",
  }
  lines = read_metrics(path.parent)
  for ax, (split, title) in zip(axes, titles.items(), strict=True):
    chosen = [
      line
      for line in lines
      if line["split"] == split and "selection" in line["values"]
    ]
    steps = [line["step"] for line in chosen]
    shares = np.array([line["values"]["selection"] for line in chosen])
    for i, structure in enumerate(structures):
      ax.plot(
        steps,
        shares.reshape(-1, len(structures))[:, i],
        color=_color(i),
        marker="." if len(steps) < 50 else None,
        label=structure_name(structure),
      )
    ax.set_title(title)
    ax.set_ylabel("share of positions")
    ax.set_ylim(-0.02, 1.02)
  axes[-1].set_xlabel("step")
  figure.legend(
    handles=axes[0].get_lines(),
    loc="outside right upper",
    title="codebook [N,D]",
    frameon=False,
  )
  _save(figure, path)


def _save(figure: plt.Figure, path: pathlib.Path) -> None:
  figure.savefig(path, dpi=150)
  plt.close(figure)


matplotlib.use("Agg")  # files only, also where there is a display
