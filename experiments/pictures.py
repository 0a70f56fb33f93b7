"""Pictures that a run leaves in its directory."""

from collections.abc import Sequence
import pathlib

import matplotlib.colors
import matplotlib.patches
import matplotlib.pyplot as plt
import numpy as np

from experiments import style
from experiments.logging import read_series


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
  colors = [style.color(i) for i in range(len(structures))]
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
      matplotlib.patches.Patch(color=color, label=style.structure_name(s))
      for color, s in zip(colors, structures, strict=True)
    ],
    loc="outside lower center",
    ncols=len(structures),
    frameon=False,
    title="codebook [N,D] that each position chose",
  )
  style.save(figure, path)


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
  for ax, (split, title) in zip(axes, titles.items(), strict=True):
    steps, shares = read_series(path.parent, split, "selection")
    for i, structure in enumerate(structures):
      ax.plot(
        steps,
        shares.reshape(-1, len(structures))[:, i],
        color=style.color(i),
        marker="." if len(steps) < 50 else None,
        label=style.structure_name(structure),
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
  style.save(figure, path)
