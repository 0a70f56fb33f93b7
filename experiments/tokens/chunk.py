"""A chunk of a token file: images of one size, as codes."""

from collections.abc import Callable
import dataclasses
import json
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


def parse_names(
  content: bytes, height: int, width: int, downsampling: int
) -> tuple[str, ...]:
  """Returns the names of a chunk's images.

  Args:
    content: a list of names as JSON.
    height: the positions of an image on this side.
    width: the positions on the other side.
    downsampling: the pixels on each side of a position.

  Raises:
    ValueError: if they are none, or memory would not hold the images.
  """
  names = _names(json.loads(content))
  pixels = len(names) * height * width * downsampling**2
  if not 0 < pixels <= MAX_PIXELS:
    raise ValueError(f"{pixels} pixels are in a chunk")
  return names


def _names(value: Any) -> tuple[str, ...]:
  if not isinstance(value, list) or not 1 <= len(value) <= MAX_IMAGES:
    raise ValueError("its names are no list of images")
  for name in value:
    files.check_name(name)
  return tuple(value)
