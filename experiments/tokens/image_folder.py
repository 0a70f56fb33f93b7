"""The images of a user's folder, in batches."""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
import itertools
import pathlib

import grain
import numpy as np
import tqdm

from experiments.data import images
from experiments.data import pipeline
from experiments.data import walk
from experiments.data.walk import Bad
from experiments.errors import UserError
from experiments.tokens.chunk import MAX_IMAGES

BATCH_PIXELS = 2**20  # at once in memory, and on the devices
_NAMED = 20  # bad files, in one error
_TELL_AFTER_SECONDS = 2


class Batches(grain.sources.RandomAccessDataSource):
  """The images of a folder, those of one size together, in batches.

  A batch has three parts: the names of its images, which are paths in the
  folder; the images, uint8 `[n, H, W, C]`; and the files that turn out to be
  bad, a list.  Where all files are bad, there is no array of images.

  Bad files are found late because finding them takes decoding, and decoding
  every image twice would double the time that a large folder takes.

  Attributes:
    num_images: the number of images in all batches, with the bad ones.
    bad: the files whose first bytes show that they cannot be encoded.
  """

  def __init__(
    self, folder: pathlib.Path, factor: int, channels: int, crop: bool
  ):
    """Reads the size of every image.

    Args:
      folder: the folder, with images in it and in folders below.
      factor: a number that all sides must be multiples of.
      channels: 3 for RGB, 1 for grey.
      crop: whether to cut sides to multiples, at both edges alike.

    Raises:
      UserError: if there is no folder that can be read, or nothing in it.
    """
    self._folder = folder
    self._factor = factor
    self._channels = channels
    self._crop = crop
    found = walk.find(folder)
    self.bad = list(found.bad)
    sizes = {}
    for name in found.images:
      try:
        sizes[name] = self._fit(images.shown_size(folder / name))
      except ValueError as error:
        self.bad.append(_bad(name, error))
    for clash in _clashes(sizes):
      self.bad.append(clash)
      del sizes[clash.name]
    if not (sizes or self.bad):
      raise UserError(
        f"folder {folder} has no image: no file that ends in one of"
        f" {', '.join(walk.SUFFIXES)}"
      )
    self._say_what_is_no_image(found)
    self.num_images = len(sizes)
    self._batches = []
    by_size = sorted(sizes, key=lambda name: (sizes[name], name))
    for size, names in itertools.groupby(by_size, key=sizes.get):
      names = tuple(names)
      at_once = max(1, BATCH_PIXELS // (size[0] * size[1]))
      at_once = min(at_once, MAX_IMAGES)
      for i in range(0, len(names), at_once):
        self._batches.append((names[i : i + at_once], size))

  def __len__(self) -> int:
    return len(self._batches)

  def __getitem__(
    self, number: int
  ) -> tuple[tuple[str, ...], np.ndarray | None, list[Bad]]:
    names, size = self._batches[number]
    read, bad = {}, []
    for name in names:
      try:
        read[name] = self._read(name, size)
      except ValueError as error:
        bad.append(_bad(name, error))
    return tuple(read), np.stack([*read.values()]) if read else None, bad

  def read(
    self, about: str, *, skip_bad: bool, stays: bool = True
  ) -> Iterator[tuple[tuple[str, ...], np.ndarray | None, list[Bad]]]:
    """Yields all batches, with a progress bar.

    Args:
      about: what the bar says.
      skip_bad: whether files may be bad.
      stays: whether the bar stays in view.

    Raises:
      UserError: if all files are bad, or unless `skip_bad`, if one is.
    """
    left_out, num_read = [], 0
    with tqdm.tqdm(
      total=self.num_images,
      desc=about,
      unit="image",
      leave=stays,
      disable=None,  # where there is no terminal
    ) as progress:
      for names, images, bad in pipeline.iterate(self):
        num_read += 1
        left_out += bad
        if bad and not skip_bad:
          raise self.refusal(bad, num_read)
        yield names, images, bad
        progress.update(len(names) + len(bad))
    if len(left_out) == self.num_images:
      raise self.refusal(left_out, num_read)

  def refusal(self, bad: Sequence[Bad], first: int = 0) -> UserError:
    """Returns the error that names all files that are bad.

    Args:
      bad: the known ones beside `self.bad`.
      first: the number of the first batch that is read to find the others.
    """
    bad = [*self.bad, *bad]
    if first < len(self):
      with tqdm.tqdm(
        total=len(self) - first,
        desc="Reading the other images",
        unit="batch",
        delay=_TELL_AFTER_SECONDS,
        disable=None,  # where there is no terminal
      ) as progress:
        for _, _, more in pipeline.iterate(self, first):
          bad += more
          progress.update()
    bad.sort(key=lambda one: one.name)
    listed = ", ".join(map(str, bad[:_NAMED]))
    if len(bad) > _NAMED:
      listed += f" and {len(bad) - _NAMED} others"
    remedy = "put them right or take them away"
    if any(one.has_other_sides for one in bad):
      remedy += f", have sides cut to multiples of {self._factor} with --crop"
    if self.num_images + len(self.bad) > len(bad):
      remedy += ", or leave them out with --skip_bad"
    count = "1 file" if len(bad) == 1 else f"{len(bad)} files"
    return UserError(
      f"{count} of {walk.printable(self._folder)} cannot be encoded: {listed};"
      f" {remedy}"
    )

  def say_left_out(self, bad: Iterable[Bad]) -> None:
    """Prints which files are left out, a line each."""
    for one in sorted(bad, key=lambda one: one.name):
      print(f"Leaving out {one}")

  def _say_what_is_no_image(self, found: walk.Found) -> None:
    folder = walk.printable(self._folder)
    if found.others:
      print(f"Leaving out {found.others} files of {folder} that are no images")
    if found.repeated:
      links = ", ".join(map(walk.printable, found.repeated))
      print(
        "Leaving out what links to folders that are read under another name,"
        f" or that contain {folder}: {links}"
      )

  def _read(self, name: str, size: tuple[int, int]) -> np.ndarray:
    image = images.read(self._folder / name, self._channels)
    if self._fit(image.shape[:2]) != size:
      raise ValueError("has changed meanwhile; encode again")
    top, left = (image.shape[0] - size[0]) // 2, (image.shape[1] - size[1]) // 2
    return image[top : top + size[0], left : left + size[1]]

  def _fit(self, size: tuple[int, int]) -> tuple[int, int]:
    """Returns the size, cut to multiples with `crop`; or raises ValueError."""
    height, width = (side // self._factor * self._factor for side in size)
    pixels = f"{size[1]} x {size[0]} pixels"
    if min(height, width) == 0:
      raise ValueError(f"{pixels}, where a side must have {self._factor}")
    if not self._crop and (height, width) != size:
      raise _SidesError(
        f"{pixels}, sides that are no multiples of {self._factor}"
      )
    return height, width


def decoded_name(name: str) -> str:
  """Returns the name of the PNG file that an image is decoded to."""
  return str(pathlib.PurePosixPath(name).with_suffix(".png"))


class _SidesError(ValueError):
  """The sides of an image would fit if its edges were cut."""


def _bad(name: str, error: ValueError) -> Bad:
  is_known = isinstance(error, images.DecodingError)
  return Bad(
    name,
    error.reason if is_known else str(error),
    has_other_sides=isinstance(error, _SidesError),
  )


def _clashes(names: Iterable[str]) -> list[Bad]:
  """Returns images whose decoded files would replace others or a folder."""
  bad, files, folders = [], {}, {}
  for name in sorted(names):
    decoded = decoded_name(name)
    above = [str(p) for p in pathlib.PurePosixPath(decoded).parents][:-1]
    others = [files.get(place) for place in (decoded, *above)]
    others = [other for other in (*others, folders.get(decoded)) if other]
    if others:
      reason = f"cannot be decoded beside {others[0]}; rename one of them"
      bad.append(Bad(name, reason))
      continue
    files[decoded] = name
    for folder in above:
      folders.setdefault(folder, name)
  return bad
