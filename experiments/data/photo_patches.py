"""Patches of the photographs that scikit-image and scikit-learn ship.

Nothing is downloaded.  Every photograph is cut into a 4 x 4 grid of cells, of
which those on one diagonal are for validation and the others for training, so
that no pixel is in both splits.  All photographs contribute equally many
patches.  Of the motorcycle, a stereo pair, only the left picture is used: the
right one would show the validation cells' scene to training.
"""

import importlib.util
import pathlib

import ml_collections
import numpy as np
from PIL import Image

from experiments.data.split import Split
from experiments.errors import UserError

_SKIMAGE = ("skimage", "data")
_SKLEARN = ("sklearn", "datasets/images")
PHOTOGRAPHS = {
  "astronaut": (*_SKIMAGE, "astronaut.png"),
  "chelsea": (*_SKIMAGE, "chelsea.png"),
  "china": (*_SKLEARN, "china.jpg"),
  "coffee": (*_SKIMAGE, "coffee.png"),
  "flower": (*_SKLEARN, "flower.jpg"),
  "hubble": (*_SKIMAGE, "hubble_deep_field.jpg"),
  "ihc": (*_SKIMAGE, "ihc.png"),
  "motorcycle": (*_SKIMAGE, "motorcycle_left.png"),
  "retina": (*_SKIMAGE, "retina.jpg"),
  "rocket": (*_SKIMAGE, "rocket.jpg"),
}
_GRID = 4
_TRAIN_PATCHES = 384  # of each photograph
_VALIDATION_PATCHES = 24  # of each photograph; what the smallest one has


def load(config: ml_collections.ConfigDict) -> dict[str, Split]:
  """Returns the splits "train" and "validation".

  Training patches have half a side more than `config.image_size`, to be
  cropped at random.

  Args:
    config: `config.data` of an experiment; `image_size` is used.

  Raises:
    UserError: if a photograph is missing or damaged, or too small for patches
      of that size.
  """
  size = config.image_size
  if config.channels != 3:
    raise UserError(
      f"config.data.channels is {config.channels}; photographs have 3"
    )
  patches = {"train": [], "validation": []}
  for name in PHOTOGRAPHS:
    photograph = _read(name)
    cells = {"train": [], "validation": []}
    for row in range(_GRID):
      for column in range(_GRID):
        is_validation = (row + column) % _GRID == 0
        cells["validation" if is_validation else "train"].append(
          _cell(photograph, row, column)
        )
    patches["train"].append(
      _cut(cells["train"], size + size // 2, size // 4, _TRAIN_PATCHES, name)
    )
    patches["validation"].append(
      _cut(cells["validation"], size, size, _VALIDATION_PATCHES, name)
    )
  return {split: _to_split(images) for split, images in patches.items()}


def _to_split(patches: list[np.ndarray]) -> Split:
  source = np.repeat(np.arange(len(patches)), [len(p) for p in patches])
  return Split(
    np.concatenate(patches), source.astype(np.int32), tuple(PHOTOGRAPHS)
  )


def _read(name: str) -> np.ndarray:
  package, folder, file_name = PHOTOGRAPHS[name]
  spec = importlib.util.find_spec(package)
  if spec is None or spec.origin is None:
    raise UserError(
      f"photograph {file_name} needs the package {package}, which is not"
      " installed; run pip install -r requirements.txt"
    )
  path = pathlib.Path(spec.origin).parent / folder / file_name
  try:
    with Image.open(path) as image:
      return np.asarray(image.convert("RGB"))
  except OSError as error:
    raise UserError(
      f"photograph {path} is missing or damaged ({error}); reinstall the"
      f" package {package} with pip install --force-reinstall"
    ) from error


def _cell(photograph: np.ndarray, row: int, column: int) -> np.ndarray:
  height, width = photograph.shape[:2]
  return photograph[
    height * row // _GRID : height * (row + 1) // _GRID,
    width * column // _GRID : width * (column + 1) // _GRID,
  ]


def _cut(
  cells: list[np.ndarray], size: int, stride: int, count: int, name: str
) -> np.ndarray:
  """Returns at most `count` patches, spread evenly over the cells."""
  corners = [
    (cell, y, x)
    for cell in cells
    for y in range(0, cell.shape[0] - size + 1, stride)
    for x in range(0, cell.shape[1] - size + 1, stride)
  ]
  if len(corners) < count:
    raise UserError(
      f"config.data.image_size is too large: photograph {name} has only"
      f" {len(corners)} of the {count} patches of {size} pixels that are"
      " needed; use 32 or less"
    )
  chosen = np.linspace(0, len(corners) - 1, count).round().astype(int)
  return np.stack(
    [
      cell[y : y + size, x : x + size]
      for cell, y, x in (corners[i] for i in chosen)
    ]
  )
