"""A chunk of a token file: images of one size, as codes."""

from collections.abc import Callable
import dataclasses
from typing import Any

import numpy as np

from experiments import files
from experiments.processes.limits import MAX_PIXELS

MAX_IMAGES = 4096  # of a chunk
MAX_NAMES = MAX_IMAGES * files.MAX_NAME  # bytes


@dataclasses.dataclass(frozen=True)
class Chunk:
  """Images of one size.

  Attributes:
    names: the names of the n images.
    height: h, the positions of the finest grid on this side.
    width: w, the positions on the other side.
    codes: the sent codes of each stream, int32 `[n_k]`, in the order of their
      positions.
  """

  names: tuple[str, ...]
  height: int
  width: int
  codes: tuple[np.ndarray, ...]


def read_numbers(read: Callable[[int], bytes], count: int) -> list[int]:
  """Returns numbers of 32 bits, big-endian, that `read` gives bytes of."""
  return np.frombuffer(read(4 * count), ">u4").tolist()


def check_names(
  names: Any, height: int, width: int, downsampling: int
) -> tuple[str, ...]:
  """Returns the names of a chunk's images.

  Args:
    names: anything; it should be a list of names.
    height: the positions of an image on this side.
    width: the positions on the other side.
    downsampling: the pixels on each side of a position.

  Raises:
    ValueError: if it is none, or memory would not hold the images.
  """
  if not isinstance(names, list) or not 1 <= len(names) <= MAX_IMAGES:
    raise ValueError("its names are no list of images")
  for name in names:
    files.check_name(name)
  pixels = len(names) * height * width * downsampling**2
  if not 0 < pixels <= MAX_PIXELS:
    raise ValueError(f"{pixels} pixels are in a chunk")
  return tuple(names)
