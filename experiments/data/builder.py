"""The base of the TFDS builders of all data sets."""

import abc
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import pathlib
from typing import Any
import zipfile

from absl import logging
import tensorflow_datasets as tfds

from experiments.data import archives
from experiments.data import images
from experiments.data.archives import Archive
from experiments.errors import UserError

Examples = Iterable[tuple[int | str, dict[str, Any]]]


class ArchiveBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """Makes a data set from archives, without TensorFlow.

  Attributes:
    ARCHIVES: the files that it is made from.
    SPLITS: the number of images in each of TFDS's splits; training comes first,
      then the split for validation.
    paths: the paths of the archives by name; empty where TFDS downloads them.
    failure: what is wrong with the archives.  (TFDS adds lines of its own to an
      exception that passes through it.)
  """

  ARCHIVES: tuple[Archive, ...]
  SPLITS: Mapping[str, int]
  paths: Mapping[str, pathlib.Path] = {}
  failure: str | None = None

  def __init__(self, **kwargs):
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)  # TFDS warns of configs of one's own
    try:
      super().__init__(**kwargs)
    finally:
      logging.set_verbosity(verbosity)

  @abc.abstractmethod
  def read_archives(
    self, paths: Mapping[str, pathlib.Path]
  ) -> dict[str, Examples]:
    """Returns the examples of each split, with their keys.

    Args:
      paths: the paths of the archives by name.

    Raises:
      UserError: if they are damaged; so may the examples' iterators.
    """

  def _split_generators(
    self, dl_manager: tfds.download.DownloadManager
  ) -> dict[str, Iterator]:
    paths = self.paths or dl_manager.download(
      {archive.name: archive.url for archive in self.ARCHIVES}
    )
    with self._keeping_failure():
      splits = self.read_archives(
        {name: pathlib.Path(path) for name, path in paths.items()}
      )
    return {
      split: self._generate_examples(split, examples)
      for split, examples in splits.items()
    }

  def _generate_examples(self, split: str, examples: Examples) -> Iterator:
    count = 0
    with self._keeping_failure():
      for example in examples:
        yield example
        count += 1
      if count != self.SPLITS[split]:
        archive = self.ARCHIVES[0]
        raise UserError(
          f"archive {self.paths.get(archive.name, archive.name)} has {count}"
          f" images for the split {split}; it must have {self.SPLITS[split]};"
          f" {archives.remedy(archive)}"
        )

  @contextlib.contextmanager
  def _keeping_failure(self) -> Iterator[None]:
    try:
      yield
    except UserError as error:
      self.failure = str(error)
      raise


def zipped_features(
  size: tuple[int, int], feature: str, label: tfds.features.ClassLabel
) -> tfds.features.FeaturesDict:
  """Returns the features of `zipped_examples`.

  Args:
    size: width and height of the images.
    feature: the name of the label.
    label: the feature of the label.
  """
  width, height = size
  return tfds.features.FeaturesDict(
    {
      "id": tfds.features.Text(),
      "image": tfds.features.Image(shape=(height, width, 3)),
      feature: label,
    }
  )


def zipped_examples(
  archive: Archive,
  path: pathlib.Path,
  members: Mapping[str, tuple[str, str]],
  *,
  size: tuple[int, int],
  feature: str,
) -> Examples:
  """Yields the examples of a zip of image files.

  Args:
    archive: the zip.
    path: the path of the zip.
    members: the file in the zip and its label, by the keys of the examples.
    size: width and height that all images must have.
    feature: the label's name.

  Raises:
    UserError: if a file is missing or does not decode, or is of another size.
  """
  with archives.reading(archive, path):
    zipped = zipfile.ZipFile(path)
  with zipped:
    for key, (name, label) in members.items():
      with archives.reading(archive, path):
        content = images.checked_file(
          archives.read_zipped(zipped, name), name, size
        )
      yield key, {"id": key, "image": content, feature: label}
