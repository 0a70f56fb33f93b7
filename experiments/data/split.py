"""One split of a data set, in memory."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Split:
  """Images, and where they come from.

  Attributes:
    images: uint8 `[n, H, W, C]`.  Training images may be larger than the
      model's, to be cropped at random.
    source: of each image, an index into `source_names`, int32 `[n]`.
    source_names: what evaluation reports apart; empty where the data set has
      no parts.
  """

  images: np.ndarray
  source: np.ndarray
  source_names: tuple[str, ...] = ()

  def __len__(self) -> int:
    return len(self.images)
