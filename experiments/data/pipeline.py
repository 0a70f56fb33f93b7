"""Batches from a split.

Batch k of a run is a function of (seed, k) alone: a resumed run sees what an
uninterrupted one would have seen, and nothing has to be saved for it.  Every
process computes its own slice of it.  Grain's threads make batches ahead of
their use.
"""

from collections.abc import Iterator
import functools
from typing import TypeVar

import grain
import numpy as np

from experiments.data.split import Images

_Batch = TypeVar("_Batch")

# Each in memory until the device takes it.
_BATCHES_AHEAD = 4
_THREADS = 2


class TrainBatches(grain.sources.RandomAccessDataSource[np.ndarray]):
  """The training batches of a run, of a process, by number.

  Every epoch is a permutation of its own; a batch may begin in one epoch and
  end in the next.
  """

  def __init__(
    self,
    images: Images,
    *,
    seed: int,
    batch_size: int,
    num_steps: int,
    process_index: int = 0,
    process_count: int = 1,
  ):
    """Describes the batches; nothing is read yet.

    Args:
      images: of the training split.
      seed: of the permutations.
      batch_size: images in a batch, over all processes.
      num_steps: number of batches.
      process_index: of this process.
      process_count: number of processes, a divisor of `batch_size`; the slices
        of all, one after another, are the batch of a single one.

    Raises:
      ValueError: if `process_count` does not divide `batch_size`.
    """
    self._images = images
    self._batch_size = batch_size
    self._num_steps = num_steps
    part = _part(batch_size, process_index, process_count)
    self._slice = np.arange(batch_size)[part]

    @functools.lru_cache(maxsize=2)  # a batch may span two epochs
    def permutation(epoch: int) -> np.ndarray:
      return np.random.default_rng((seed, epoch)).permutation(images.shape[0])

    self._permutation = permutation

  def __len__(self) -> int:
    return self._num_steps

  def __getitem__(self, step: int) -> np.ndarray:
    """Returns this process's images, uint8 `[b, H, W, C]`, of batch `step`."""
    epochs, places = np.divmod(
      step * self._batch_size + self._slice, self._images.shape[0]
    )
    indices = np.empty_like(places)
    for epoch in np.unique(epochs):
      is_here = epochs == epoch
      indices[is_here] = self._permutation(int(epoch))[places[is_here]]
    return self._images[indices]


class EvalBatches(grain.sources.RandomAccessDataSource[tuple[np.ndarray, ...]]):
  """Every image of a split once, in order.

  A batch is images uint8 `[b, H, W, C]`, this process's part of it; their
  indices in the split, int32 `[b]`; and a mask of the whole batch, float32
  `[batch_size]`, 0 for what the last one is filled up with: its first image.
  """

  def __init__(
    self,
    images: Images,
    batch_size: int,
    process_index: int = 0,
    process_count: int = 1,
  ):
    self._images = images
    self._batch_size = batch_size
    self._part = _part(batch_size, process_index, process_count)

  def __len__(self) -> int:
    return -(-self._images.shape[0] // self._batch_size)

  def __getitem__(self, number: int) -> tuple[np.ndarray, ...]:
    start = number * self._batch_size
    indices = np.arange(start, start + self._batch_size, dtype=np.int32)
    is_real = indices < self._images.shape[0]
    indices = np.where(is_real, indices, start).astype(np.int32)
    part = indices[self._part]
    return self._images[part], part, is_real.astype(np.float32)


def _part(batch_size: int, process_index: int, process_count: int) -> slice:
  """Which images of a batch a process has.

  Raises a ValueError if there are not as many for each.
  """
  if batch_size % process_count:
    raise ValueError(
      f"batch_size is {batch_size}; it must be a multiple of the number of"
      f" processes, {process_count}"
    )
  size = batch_size // process_count
  return slice(process_index * size, (process_index + 1) * size)


def iterate(
  batches: grain.sources.RandomAccessDataSource[_Batch], first: int = 0
) -> Iterator[_Batch]:
  """Yields batches in order, from number `first` on, made ahead by threads."""
  options = grain.ReadOptions(
    num_threads=_THREADS, prefetch_buffer_size=_BATCHES_AHEAD
  )
  dataset = grain.MapDataset.source(batches)[first:]
  return iter(dataset.to_iter_dataset(options))
