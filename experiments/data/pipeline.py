"""Batches from a split.

Batch k of a run is a function of (seed, k) alone.  So a resumed run sees the
batches of an uninterrupted one, and nothing has to be saved for that.  Every
process computes its own slice of a batch.  Grain's threads make batches ahead
of their use.
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
  """The training batches of a run, by number; of each, one process's slice.

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
      images: the images of the training split.
      seed: the seed of the permutations.
      batch_size: the number of images in a batch, over all processes.
      num_steps: the number of batches.
      process_index: the index of this process.
      process_count: the number of processes, a divisor of `batch_size`; their
        slices, one after another, are the batch of a single process.

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

  A batch has three arrays: this process's images, uint8 `[b, H, W, C]`; their
  indices in the split, int32 `[b]`; and the mask of the global batch, float32
  `[batch_size]`.  The last batch is filled up with its first image, where the
  mask is 0.
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
  """Returns the slice of a batch that a process has.

  Raises:
    ValueError: if processes cannot have equal slices.
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
  """Yields batches in order from number `first` on; threads make them ahead."""
  options = grain.ReadOptions(
    num_threads=_THREADS, prefetch_buffer_size=_BATCHES_AHEAD
  )
  dataset = grain.MapDataset.source(batches)[first:]
  return iter(dataset.to_iter_dataset(options))
