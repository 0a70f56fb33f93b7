"""The contract of `nearest_codes`, checked in float64."""

import numpy as np

EPSILON = np.finfo(np.float32).eps


def excess(z, codebook, indices):
  """How far the choice is beyond the nearest, in the contract's unit."""
  z, codebook = z.astype(np.float64), codebook.astype(np.float64)
  distances = np.linalg.norm(z[:, None] - codebook[None], axis=-1)
  chosen = np.take_along_axis(distances, indices[:, None], axis=1)[:, 0]
  norms = np.linalg.norm(z, axis=-1) + np.linalg.norm(
    codebook[indices], axis=-1
  )
  beyond = chosen - distances.min(axis=1)
  # Both norms may be 0; then the distance is.
  return beyond / np.maximum(EPSILON * norms, np.finfo(np.float64).tiny)
