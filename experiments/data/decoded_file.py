"""Decoded images in a file, used only as long as its hash is right.

A file is what `np.save` would write, and a SHA-256 of the file's name and of
everything before it.  `np.load` reads it too; but nothing here believes its
header, which a damaged file could fill with any shape.
"""

import contextlib
import hashlib
import io
import os
import pathlib
import stat

from absl import logging
import numpy as np

from experiments.errors import one_line

_HASH_BYTES = 32
_AT_ONCE = 2**18  # bytes, which stay in a processor's cache


def read(path: pathlib.Path, shape: tuple[int, ...]) -> np.ndarray | None:
  """Returns the images that `write` has kept, or None where there are none.

  A line says why an existing file is not used.

  Args:
    path: the path of the file.
    shape: the shape that the images must have.
  """
  try:
    return _read(path, shape)
  except FileNotFoundError:
    return None
  except (OSError, ValueError) as error:
    reason = getattr(error, "strerror", None) or one_line(error)
    logging.warning(
      "Decoded images in %s cannot be used (%s); decoding them anew",
      path,
      reason,
    )
    return None


def write(path: pathlib.Path, images: np.ndarray) -> None:
  """Keeps uint8 images in a file, all or none; replaces an older file.

  A line says so if they cannot be kept.
  """
  temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
  header, digest = _header(images.shape), _hash_of(path)
  digest.update(header)
  try:
    with open(temporary, "wb") as file:
      file.write(header)
      for part in _parts(images):
        digest.update(part)
        file.write(part)
      file.write(digest.digest())
    os.replace(temporary, path)
  except OSError as error:
    logging.warning(
      "Decoded images cannot be kept in %s (%s); the next run decodes again",
      path,
      error.strerror or one_line(error),
    )
    with contextlib.suppress(OSError):
      temporary.unlink()


def _read(path: pathlib.Path, shape: tuple[int, ...]) -> np.ndarray:
  header, digest = _header(shape), _hash_of(path)
  with_images = len(header) + int(np.prod(shape))
  status = os.stat(path)
  if not stat.S_ISREG(status.st_mode):
    raise ValueError("it is no file")
  if status.st_size == with_images:
    raise ValueError("it has no hash, as files of older versions")
  if status.st_size != with_images + _HASH_BYTES:
    raise ValueError(
      f"it has {status.st_size} bytes, and must have"
      f" {with_images + _HASH_BYTES}"
    )
  with open(path, "rb") as file:
    if file.read(len(header)) != header:
      raise ValueError("its header is another")
    digest.update(header)
    images = np.empty(shape, np.uint8)
    for part in _parts(images):
      if file.readinto(part) != len(part):
        raise ValueError("it is cut short")
      digest.update(part)
    if file.read(_HASH_BYTES) != digest.digest():
      raise ValueError("its SHA-256 is another")
  return images


def _header(shape: tuple[int, ...]) -> bytes:
  header = io.BytesIO()
  np.lib.format.write_array_header_1_0(
    header, {"descr": "|u1", "fortran_order": False, "shape": shape}
  )
  return header.getvalue()


def _hash_of(path: pathlib.Path) -> "hashlib._Hash":
  # The name is hashed too, so that a file of another split, or of another state
  # of the records, does not pass under this name.
  return hashlib.sha256(os.fsencode(path.name))


def _parts(images: np.ndarray) -> list[np.ndarray]:
  pixels = images.reshape(-1)
  return [pixels[i : i + _AT_ONCE] for i in range(0, len(pixels), _AT_ONCE)]
