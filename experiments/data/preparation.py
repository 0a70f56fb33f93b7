"""Has TFDS prepare a data set, completely and once, with clear errors."""

from collections.abc import Iterator
import contextlib
import fcntl
import pathlib
import shutil
import sys

import numpy as np
import requests
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download import download_manager
from tensorflow_datasets.core.download import resource
from tensorflow_datasets.core.download import util

from experiments.data import archives
from experiments.data.builder import ArchiveBuilder
from experiments.errors import one_line
from experiments.errors import UserError

_DOWNLOAD_ERRORS = (
  requests.RequestException,
  download_manager.NonMatchingChecksumError,
  util.DownloadError,
)
_GIB = 2**30


def prepare(builder: ArchiveBuilder, manual_dir: str) -> None:
  """Has TFDS prepare a data set.

  Only one process at a time does so; others wait for it.

  Args:
    builder: the builder of the data set; make a new one to read it.
    manual_dir: the directory of the archives, see `archives.find`.

  Raises:
    UserError: if archives are missing or damaged, or cannot be downloaded, or
      the data directory cannot be written.
  """
  root = pathlib.Path(builder.data_dir_root)
  directory = archives.manual_directory(manual_dir, root)
  builder.paths = archives.find(builder.ARCHIVES, manual_dir, root)
  if not (builder.paths or _is_downloaded(builder, root)):
    archives.check_connection(builder.ARCHIVES, directory)
  if not sys.stderr.isatty():
    tfds.disable_progress_bar()
  try:
    _check_space(builder, root)
    with _lock(root, builder.name):
      if builder.data_path.exists():
        return  # another process did it
      builder.download_and_prepare(
        file_format="array_record",
        download_config=tfds.download.DownloadConfig(try_download_gcs=False),
      )
  except Exception as error:
    problem = _explain(error, builder, directory)
    if problem is None:
      raise
    raise UserError(problem) from error


def _is_downloaded(builder: ArchiveBuilder, root: pathlib.Path) -> bool:
  """Returns whether TFDS has downloaded all archives before."""
  names = [
    resource.get_dl_fname(archive.url, builder.url_infos[archive.url].checksum)
    for archive in builder.ARCHIVES
  ]
  return all(
    resource.is_locally_cached(root / "downloads" / name) for name in names
  )


def _explain(
  error: Exception, builder: ArchiveBuilder, directory: pathlib.Path
) -> str | None:
  """Returns in a line what stopped TFDS; None for an unknown cause."""
  reason = one_line(error)
  if builder.failure:
    return builder.failure
  if isinstance(error, _DOWNLOAD_ERRORS):
    return (
      f"downloading {builder.name} failed ({reason});"
      f" {archives.download_remedy(builder.ARCHIVES, directory)}"
    )
  if isinstance(error, OSError) or "Failed to finalize" in reason:
    return (
      f"data directory {builder.data_dir_root} cannot be written ({reason});"
      " make room, or name another with --config.data.data_dir=DIR"
    )
  return None


def _check_space(builder: ArchiveBuilder, root: pathlib.Path) -> None:
  """Raises an OSError if decoded images would not fit on the disk."""
  image = np.prod(builder.info.features["image"].shape)
  needed = sum(builder.SPLITS.values()) * image
  root.mkdir(parents=True, exist_ok=True)
  free = shutil.disk_usage(root).free
  if free < needed:
    raise OSError(
      f"{needed / _GIB:.2f} GiB are needed, {free / _GIB:.2f} GiB are free"
    )


@contextlib.contextmanager
def _lock(root: pathlib.Path, name: str) -> Iterator[None]:
  """Lets one process at a time prepare a data set."""
  with open(root / f".{name}.lock", "w") as lock:
    try:
      fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      print(f"Waiting for another process that prepares {name}", flush=True)
      fcntl.flock(lock, fcntl.LOCK_EX)
    yield
