"""Batches from a split in memory.

Batch k of a run is a function of (seed, k) alone, so that a resumed run sees
what an uninterrupted one would have seen.
"""

from collections.abc import Iterator

import numpy as np

from experiments.data.split import Split


def train_batches(
  split: Split, seed: int, batch_size: int, first_step: int = 0
) -> Iterator[np.ndarray]:
  """Yields training batches uint8 `[batch_size, H, W, C]` without end.

  Every epoch is a permutation of its own; a batch may begin in one epoch and
  end in the next.

  Args:
    split: the training split.
    seed: of the permutations.
    batch_size: images in a batch.
    first_step: number of the first batch that is wanted.
  """
  step = first_step
  epoch, order = None, None
  while True:
    positions = np.arange(step * batch_size, (step + 1) * batch_size)
    indices = np.empty(batch_size, np.int64)
    for wanted in np.unique(positions // len(split)):
      if wanted != epoch:
        epoch = wanted
        order = np.random.default_rng((seed, epoch)).permutation(len(split))
      is_here = positions // len(split) == wanted
      indices[is_here] = order[positions[is_here] % len(split)]
    yield split.images[indices]
    step += 1


def eval_batches(
  split: Split, batch_size: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
  """Yields every image of a split once, in order.

  The last batch is filled up with its first image.

  Args:
    split: the images.
    batch_size: images in a batch.

  Yields:
    images uint8 `[batch_size, H, W, C]`; their indices in the split, int32
    `[batch_size]`; and a mask, float32 `[batch_size]`, 0 for padding.
  """
  for start in range(0, len(split), batch_size):
    indices = np.arange(start, start + batch_size, dtype=np.int32)
    mask = (indices < len(split)).astype(np.float32)
    indices = np.where(mask > 0, indices, start).astype(np.int32)
    yield split.images[indices], indices, mask
