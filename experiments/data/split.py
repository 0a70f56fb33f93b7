"""One split of a data set."""

import dataclasses
from typing import Protocol

import numpy as np


class Images(Protocol):
  """The interface of a split's images, which a NumPy array has.

  Attributes:
    shape: `(n, H, W, C)`.
  """

  shape: tuple[int, ...]

  def __getitem__(self, indices: np.ndarray) -> np.ndarray:
    """Returns the images at int `[k]` indices, uint8 `[k, H, W, C]`."""


@dataclasses.dataclass(frozen=True)
class Split:
  """Images, and where they come from.

  Attributes:
    images: uint8 `[n, H, W, C]`, in memory or read on demand.  Images that are
      larger than the model's are cropped: at random in training, at the centre
      in evaluation.
    source: the index of each image's source in `source_names`, int32 `[n]`.
    source_names: the parts that evaluation reports apart; empty where the data
      set has no parts.
  """

  images: Images
  source: np.ndarray
  source_names: tuple[str, ...] = ()

  def __len__(self) -> int:
    return self.images.shape[0]

  def subsample(self, count: int) -> "Split":
    """Returns up to `count` images, evenly spread; none is copied."""
    count = min(count, len(self))
    return self.select(np.linspace(0, len(self) - 1, count).round().astype(int))

  def select(self, chosen: np.ndarray) -> "Split":
    """Returns the images at int `[k]` indices, in this order; none is copied.

    An index may occur more than once.
    """
    return Split(
      _Selection(self.images, chosen), self.source[chosen], self.source_names
    )


class _Selection:
  """The chosen ones of other images."""

  def __init__(self, images: Images, chosen: np.ndarray):
    self._images = images
    self._chosen = chosen
    self.shape = (len(chosen), *images.shape[1:])

  def __getitem__(self, indices: np.ndarray) -> np.ndarray:
    return self._images[self._chosen[indices]]
