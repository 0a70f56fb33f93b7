"""Files of vectors, as NumPy and as the field of vector search has them."""

import pathlib

import numpy as np

from experiments.errors import one_line
from experiments.errors import UserError


def read(path: pathlib.Path) -> np.ndarray:
  """Returns the vectors of a file, float32 `[T, D]`.

  Args:
    path: an array `[T, D]` of numbers in a file `.npy`; or a file `.fvecs`, in
      which each vector is D as an int32, and D float32, little-endian.

  Raises:
    UserError: if the file cannot be read, holds no such vectors, or numbers
      that are not finite.
  """
  readers = {".npy": _read_npy, ".fvecs": _read_fvecs}
  if path.suffix not in readers:
    raise UserError(f"{path} is no .npy or .fvecs file; name one of these")
  try:
    vectors = readers[path.suffix](path)
  except (OSError, ValueError, EOFError) as error:
    raise UserError(
      f"{path} cannot be read ({one_line(error)}); name a file of vectors"
    ) from error
  is_number = vectors.dtype.kind in "fiu"
  if vectors.ndim != 2 or not vectors.size or not is_number:
    raise UserError(
      f"{path} has an array {vectors.dtype} {list(vectors.shape)}; it must be"
      " numbers [T, D], T vectors of width D"
    )
  with np.errstate(over="ignore"):  # it is told below
    vectors = np.asarray(vectors, np.float32)
  if not np.isfinite(vectors).all():
    row = int(np.argmin(np.isfinite(vectors).all(axis=1)))
    raise UserError(
      f"{path} has numbers in vector {row} that are not finite in float32"
    )
  return vectors


def _read_npy(path: pathlib.Path) -> np.ndarray:
  vectors = np.load(path)  # which by default runs nothing that is pickled
  if not isinstance(vectors, np.ndarray):
    raise ValueError("it is an archive of arrays")
  return vectors


def _read_fvecs(path: pathlib.Path) -> np.ndarray:
  size = path.stat().st_size
  if size % 4:
    raise ValueError(f"it has {size} bytes, no whole number of words")
  numbers = np.fromfile(path, "<i4")
  if not len(numbers):
    raise ValueError("it is empty")
  dim = int(numbers[0])
  if dim < 1 or len(numbers) % (dim + 1):
    raise ValueError(
      f"it has {len(numbers)} words, and says that vectors have {dim} numbers"
    )
  rows = numbers.reshape(-1, dim + 1)
  if (rows[:, 0] != dim).any():
    raise ValueError("its vectors are not all as wide")
  return rows[:, 1:].view("<f4")
