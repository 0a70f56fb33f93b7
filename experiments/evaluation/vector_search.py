"""How good compressed vectors are: their error, and a search among them.

Shapes: T vectors of width D, Q queries.
"""

import dataclasses

import numpy as np

from adq_jax import nearest_codes


@dataclasses.dataclass(frozen=True)
class VectorFigures:
  """The figures that the field of vector search reports.

  Attributes:
    bits: of a vector's codes.
    mse: the mean over vectors of the squared distance to what is decoded: a sum
      over width, no mean.
    recall: the share of queries whose nearest vector is the nearest one after
      compression, too ("recall at 1").
  """

  bits: float
  mse: float
  recall: float


def measure(
  vectors: np.ndarray, decoded: np.ndarray, queries: np.ndarray, bits: float
) -> VectorFigures:
  """Returns figures of vectors and what their codes decode to.

  Args:
    vectors: float32 `[T, D]`.
    decoded: float32 `[T, D]`.
    queries: float32 `[Q, D]`; they are not compressed.
    bits: of a vector's codes.
  """
  squares = np.square(vectors.astype(np.float64) - decoded).sum(axis=1)
  true = np.asarray(nearest_codes(queries, vectors))
  found = np.asarray(nearest_codes(queries, decoded))
  return VectorFigures(
    bits, float(squares.mean()), float((true == found).mean())
  )
