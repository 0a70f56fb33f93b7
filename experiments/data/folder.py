"""The images of a user's folder, in batches."""

import itertools
import pathlib

import grain
import numpy as np

from experiments import tokens
from experiments.data import images
from experiments.errors import one_line
from experiments.errors import UserError

_SUFFIXES = ".bmp .gif .jpeg .jpg .png .tif .tiff .webp".split()
_BATCH_PIXELS = 2**20  # at once in memory, and on the devices


class Batches(grain.sources.RandomAccessDataSource):
  """The images of a folder, those of one size together, in batches.

  A batch is their names, paths in the folder, and uint8 `[n, H, W, C]`.

  Attributes:
    num_images: in all batches.
  """

  def __init__(
    self, folder: pathlib.Path, factor: int, channels: int, crop: bool
  ):
    """Looks at every image's size; none is kept.

    Args:
      folder: with images in it and in folders below.
      factor: of which all sides must be multiples.
      channels: 3 for RGB, 1 for grey.
      crop: whether what is over is cut, at both edges alike.

    Raises:
      UserError: if there is no image, or one that is damaged, too large, of
        other sides, or of a name that cannot be kept.
    """
    self._folder = folder
    self._factor = factor
    self._channels = channels
    sizes, unfit = {}, []
    for name in _image_names(folder):
      height, width = _shown_size(folder / name)
      fit = self._fit((height, width))
      if min(fit) == 0 or not (crop or fit == (height, width)):
        unfit.append(f"{folder / name} ({width} x {height})")
      sizes[name] = fit
    if unfit:
      raise UserError(
        f"{len(unfit)} of {len(sizes)} images have sides that are no multiples"
        f" of {factor}, the model's downsampling, the first {unfit[0]}; resize"
        " them, or have their edges cut with --crop"
      )
    self.num_images = len(sizes)
    self._batches = []
    by_size = sorted(sizes, key=lambda name: (sizes[name], name))
    for size, names in itertools.groupby(by_size, key=sizes.get):
      names = tuple(names)
      at_once = max(1, _BATCH_PIXELS // (size[0] * size[1]))
      at_once = min(at_once, tokens.MAX_IMAGES)
      for i in range(0, len(names), at_once):
        self._batches.append((names[i : i + at_once], size))

  def __len__(self) -> int:
    return len(self._batches)

  def __getitem__(self, number: int) -> tuple[tuple[str, ...], np.ndarray]:
    names, size = self._batches[number]
    return names, np.stack([self._read(name, size) for name in names])

  def _read(self, name: str, size: tuple[int, int]) -> np.ndarray:
    path = self._folder / name
    try:
      image = images.read(path, self._channels)
    except ValueError as error:
      raise _unreadable(error) from error
    if self._fit(image.shape[:2]) != size:
      raise UserError(f"image {path} has changed meanwhile; encode again")
    top, left = (image.shape[0] - size[0]) // 2, (image.shape[1] - size[1]) // 2
    return image[top : top + size[0], left : left + size[1]]

  def _fit(self, size: tuple[int, int]) -> tuple[int, int]:
    height, width = (side // self._factor * self._factor for side in size)
    return height, width


def decoded_name(name: str) -> str:
  """Returns under which name an image comes back: that of a PNG file."""
  return str(pathlib.PurePosixPath(name).with_suffix(".png"))


def _image_names(folder: pathlib.Path) -> list[str]:
  """The paths of a folder's images in it, hidden ones left out, checked."""
  if not folder.is_dir():
    raise UserError(f"--input is {folder}; it must be a folder of images")
  names, decoded, others = [], {}, 0
  for path in sorted(folder.rglob("*")):
    relative = path.relative_to(folder)
    if any(part[0] == "." for part in relative.parts) or not path.is_file():
      continue
    if path.suffix.lower() not in _SUFFIXES:
      others += 1
      continue
    name = relative.as_posix()
    try:
      tokens.check_name(name)
    except ValueError as error:
      raise UserError(
        f"folder {folder} has an image of a name that cannot be kept"
        f" ({one_line(error)}); rename it"
      ) from error
    other = decoded.setdefault(decoded_name(name), name)
    if other != name:
      raise UserError(
        f"images {other} and {name} of {folder} would have one name when they"
        " are decoded; rename one"
      )
    names.append(name)
  if not names:
    raise UserError(
      f"folder {folder} has no image: no file that ends in one of"
      f" {', '.join(_SUFFIXES)}"
    )
  if others:
    print(f"Leaving out {others} files of {folder} that are no images")
  return names


def _shown_size(path: pathlib.Path) -> tuple[int, int]:
  try:
    return images.shown_size(path)
  except ValueError as error:
    raise _unreadable(error) from error


def _unreadable(error: ValueError) -> UserError:
  return UserError(f"{one_line(error)}; put it right, or take it away")
