"""Tiny-ImageNet: 200 classes of ImageNet at 64 x 64."""

from collections.abc import Mapping
import pathlib
import zipfile

import ml_collections
import tensorflow_datasets as tfds

from experiments.data import archives
from experiments.data import prepared
from experiments.data.archives import Archive
from experiments.data.builder import ArchiveBuilder
from experiments.data.builder import Examples
from experiments.data.builder import zipped_examples
from experiments.data.builder import zipped_features
from experiments.data.split import Split
from experiments.errors import UserError

_URL = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
_SIZE = (64, 64)
_CLASSES = 200
_FOLDER = "tiny-imagenet-200"


def load(config: ml_collections.ConfigDict) -> dict[str, Split]:
  """Returns "train" (100,000 images) and "validation" (10,000).

  See `prepared.load`.
  """
  return prepared.load(TinyImagenet, config)


class TinyImagenet(ArchiveBuilder, skip_registration=True):
  """Tiny-ImageNet, from its zip; the unlabelled test images are left out."""

  VERSION = tfds.core.Version("1.0.0")
  ARCHIVES = (
    Archive(
      "tiny-imagenet-200.zip",
      url=_URL,
      sha256="6198c8ae015e2b3e007c7841da39ec069199b9aa3bfa943a462022fe5e43c821",
      size=248_100_043,
    ),
  )
  SPLITS = {"train": 100_000, "validation": 10_000}
  url_infos = {
    archive.url: tfds.download.checksums.UrlInfo(
      size=archive.size, checksum=archive.sha256, filename=archive.name
    )
    for archive in ARCHIVES
  }

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
      builder=self,
      description=(
        "200 classes of ImageNet at 64 x 64 pixels, with 500 training and 50"
        " validation images each."
      ),
      features=zipped_features(
        _SIZE, "label", tfds.features.ClassLabel(num_classes=_CLASSES)
      ),
      supervised_keys=("image", "label"),
      homepage="http://cs231n.stanford.edu/",
      citation=_CITATION,
    )

  def read_archives(
    self, paths: Mapping[str, pathlib.Path]
  ) -> dict[str, Examples]:
    (archive,) = self.ARCHIVES
    path = paths[archive.name]
    with archives.reading(archive, path), zipfile.ZipFile(path) as zipped:
      names = zipped.namelist()
      classes, annotations = (
        archives.read_zipped(zipped, f"{_FOLDER}/{name}").decode()
        for name in ("wnids.txt", "val/val_annotations.txt")
      )
      classes = classes.split()
      validation = dict(
        line.split("\t")[:2] for line in annotations.splitlines()
      )
    if len(set(classes)) != _CLASSES:
      raise UserError(
        f"archive {path} names {len(set(classes))} classes in wnids.txt; it"
        f" must name {_CLASSES}; {archives.remedy(archive)}"
      )
    with archives.reading(archive, path):
      self.info.features["label"].names = classes
    # FOLDER/train/CLASS/images/FILE, of which FILE is unique.
    train = {}
    for name in names:
      parts = name.split("/")
      if parts[1:2] == ["train"] and parts[3:4] == ["images"] and parts[-1]:
        train[parts[-1]] = (name, parts[2])
    splits = {
      "train": train,
      "validation": {
        key: (f"{_FOLDER}/val/images/{key}", label)
        for key, label in validation.items()
      },
    }
    for members in splits.values():
      unknown = {label for _, label in members.values()} - set(classes)
      if unknown:
        raise UserError(
          f"archive {path} has images of a class {min(unknown)!r} that is not"
          f" in its wnids.txt; {archives.remedy(archive)}"
        )
    return {
      split: zipped_examples(
        archive, path, members, size=_SIZE, feature="label"
      )
      for split, members in splits.items()
    }


_CITATION = """\
@techreport{le2015tiny,
  title={Tiny {ImageNet} visual recognition challenge},
  author={Le, Ya and Yang, Xuan},
  institution={Stanford University, CS 231N},
  year={2015}
}
"""
