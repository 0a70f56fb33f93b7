"""The 2,750 fundus images of the paper, in five classes, at 256 x 256.

It is a data set of Kaggle's, not TFDS's `diabetic_retinopathy_detection`.
Validation has 250 images.  Every class gives its share (`shares`), the first
images in the random order of a seed (`archives.in_seeded_order`).
"""

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

_PAGE = (
  "https://www.kaggle.com/datasets/sachinkumar413/diabetic-retinopathy-dataset"
)
_SIZE = (256, 256)
_CLASSES = {  # by folder, with their numbers of images
  "Healthy": 1000,
  "Mild DR": 370,
  "Moderate DR": 900,
  "Proliferate DR": 290,
  "Severe DR": 190,
}
_VALIDATION = 250
_SEED = "diabetic_retinopathy/0"
_SUFFIXES = {".png", ".jpg", ".jpeg"}


def load(config: ml_collections.ConfigDict) -> dict[str, Split]:
  """Returns "train" (2,500 images) and "validation" (250).

  See `prepared.load`.

  Args:
    config: `config.data` of an experiment.  `resize_to`, or else `image_size`,
      is the size to which images are resized.
  """
  return prepared.load(DiabeticRetinopathy, config, is_resizable=True)


class DiabeticRetinopathy(ArchiveBuilder, skip_registration=True):
  """2,750 fundus images, of healthy eyes and four stages of retinopathy."""

  VERSION = tfds.core.Version("1.0.0")
  MANUAL_DOWNLOAD_INSTRUCTIONS = (
    f"Sign in to Kaggle and download the zip of {_PAGE}."
  )
  ARCHIVES = (
    Archive(
      "diabetic-retinopathy-dataset.zip",
      page=f"{_PAGE} (with a Kaggle account)",
      other_names=("archive.zip",),
    ),
  )
  SPLITS = {
    "train": sum(_CLASSES.values()) - _VALIDATION,
    "validation": _VALIDATION,
  }

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
      builder=self,
      description=(
        "2,750 fundus images at 256 x 256 pixels of healthy eyes and of four"
        " stages of diabetic retinopathy."
      ),
      features=zipped_features(
        _SIZE, "label", tfds.features.ClassLabel(names=list(_CLASSES))
      ),
      supervised_keys=("image", "label"),
      homepage=_PAGE,
      citation=_CITATION,
    )

  def read_archives(
    self, paths: Mapping[str, pathlib.Path]
  ) -> dict[str, Examples]:
    (archive,) = self.ARCHIVES
    path = paths[archive.name]
    with archives.reading(archive, path), zipfile.ZipFile(path) as zipped:
      names = zipped.namelist()
    members = {label: {} for label in _CLASSES}
    for name in names:
      file = pathlib.PurePosixPath(name)
      label = file.parent.name
      # A Mac adds files of its own to a zip, "__MACOSX/Healthy/._1.png".
      is_image = file.suffix.lower() in _SUFFIXES and file.name[0] != "."
      if is_image and label in members:
        members[label][f"{label}/{file.name}"] = (name, label)
    splits = {"train": {}, "validation": {}}
    for label, share in shares(_CLASSES, _VALIDATION).items():
      if len(members[label]) != _CLASSES[label]:
        raise UserError(
          f"archive {path} has {len(members[label])} images in the folder"
          f" {label!r}; it must have {_CLASSES[label]};"
          f" {archives.remedy(archive)}"
        )
      for i, key in enumerate(archives.in_seeded_order(members[label], _SEED)):
        split = "validation" if i < share else "train"
        splits[split][key] = members[label][key]
    return {
      split: zipped_examples(archive, path, chosen, size=_SIZE, feature="label")
      for split, chosen in splits.items()
    }


def shares(counts: Mapping[str, int], total: int) -> dict[str, int]:
  """Splits `total` in proportion to counts, by the largest remainders."""
  sum_of_counts = sum(counts.values())
  result = {
    name: total * count // sum_of_counts for name, count in counts.items()
  }
  missing = total - sum(result.values())
  remainders = {name: total * counts[name] % sum_of_counts for name in counts}
  for name in sorted(counts, key=lambda name: -remainders[name])[:missing]:
    result[name] += 1
  return result


_CITATION = """\
@misc{kumarretinopathy,
  title={Diabetic Retinopathy Dataset},
  author={Kumar, Sachin},
  howpublished={Kaggle, sachinkumar413/diabetic-retinopathy-dataset}
}
"""
