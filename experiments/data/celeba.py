"""The paper's 8,000 images of CelebA: 1,000 of each of eight attributes.

The paper does not say which attributes, nor which images.  Here attributes are
served by their numbers of images, the rarest first.  Each takes the first 1,000
of its images that no other has taken, in the random order of a seed
(`archives.in_seeded_order`): 920 for training, then 80 for validation.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import pathlib

import ml_collections
import tensorflow_datasets as tfds
from tensorflow_datasets.datasets.celeb_a import (
  celeb_a_dataset_builder as stock,
)

from experiments.data import archives
from experiments.data import prepared
from experiments.data.archives import Archive
from experiments.data.builder import ArchiveBuilder
from experiments.data.builder import Examples
from experiments.data.builder import zipped_examples
from experiments.data.builder import zipped_features
from experiments.data.split import Split
from experiments.errors import UserError

ATTRIBUTES = tuple(stock.ATTR_HEADINGS)
_URL_INFOS = stock.Builder.url_infos
_PER_ATTRIBUTE = {"train": 920, "validation": 80}
_SIZE = (178, 218)  # width and height
_FOLDER = "img_align_celeba"
_SEED = "celeba/0"
_PAGE = "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"


def load(config: ml_collections.ConfigDict) -> dict[str, Split]:
  """Returns "train" (7,360 images) and "validation" (640).

  See `prepared.load`.

  Args:
    config: `config.data` of an experiment.  `attributes` names eight of
      `ATTRIBUTES`; `resize_to`, or else `image_size`, is the size to which the
      centred square of 178 x 178 is resized.
  """
  attributes = tuple(config.attributes)
  wrong = [name for name in attributes if name not in ATTRIBUTES]
  if wrong:
    raise UserError(
      f"config.data.attributes has {wrong[0]!r}; known are"
      f" {', '.join(ATTRIBUTES)}"
    )
  if len(set(attributes)) != 8 or len(attributes) != 8:
    raise UserError(
      f"config.data.attributes is {attributes!r}; it must be eight different"
      f" ones of {', '.join(ATTRIBUTES)}"
    )
  return prepared.load(
    CelebaSubset, config, AttributesConfig(attributes), is_resizable=True
  )


class AttributesConfig(tfds.core.BuilderConfig):
  """The attributes whose images are taken; their order does not matter."""

  def __init__(self, attributes: Sequence[str]):
    attributes = tuple(sorted(attributes))
    super().__init__(name="-".join(attributes))
    self.attributes = attributes


class CelebaSubset(ArchiveBuilder, skip_registration=True):
  """1,000 images of each of eight attributes, none twice."""

  VERSION = tfds.core.Version("1.0.0")
  url_infos = _URL_INFOS
  ARCHIVES = tuple(
    Archive(
      _URL_INFOS[url].filename,
      url=url,
      page=f"{_PAGE} ({folder})",
      sha256=_URL_INFOS[url].checksum,
      size=_URL_INFOS[url].size,
    )
    for url, folder in (
      (stock.IMG_ALIGNED_DATA, "Img"),
      (stock.ATTR_DATA, "Anno"),
    )
  )
  SPLITS = {name: 8 * count for name, count in _PER_ATTRIBUTE.items()}

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
      builder=self,
      description=(
        "Aligned and cropped images of CelebA, 920 for training and 80 for"
        " validation of each of eight attributes, no image twice."
      ),
      features=zipped_features(
        _SIZE,
        "attribute",
        tfds.features.ClassLabel(names=list(self.builder_config.attributes)),
      ),
      supervised_keys=("image", "attribute"),
      homepage=_PAGE,
      citation=_CITATION,
    )

  def read_archives(
    self, paths: Mapping[str, pathlib.Path]
  ) -> dict[str, Examples]:
    pictures, table = self.ARCHIVES
    path = paths[table.name]
    content = archives.read_file(table, path)
    with archives.reading(table, path):
      members = _members(content.decode(), self.builder_config.attributes)
    return {
      split: zipped_examples(
        pictures,
        paths[pictures.name],
        {
          name: (f"{_FOLDER}/{name}", attribute)
          for name, attribute in chosen.items()
        },
        size=_SIZE,
        feature="attribute",
      )
      for split, chosen in _choose(members).items()
    }


def _members(table: str, attributes: Sequence[str]) -> dict[str, list[str]]:
  """Returns the images that have each attribute."""
  _, heading, *lines = table.splitlines()
  columns = {name: i for i, name in enumerate(heading.split(), start=1)}
  rows = [line.split() for line in lines]
  return {
    attribute: [row[0] for row in rows if row[columns[attribute]] == "1"]
    for attribute in attributes
  }


def _choose(members: Mapping[str, list[str]]) -> dict[str, dict[str, str]]:
  """Returns each split's images, with the attribute that each is for."""
  splits = {split: {} for split in _PER_ATTRIBUTE}
  taken = set()
  for attribute in sorted(members, key=lambda name: len(members[name])):
    free = archives.in_seeded_order(set(members[attribute]) - taken, _SEED)
    needed = sum(_PER_ATTRIBUTE.values())
    if len(free) < needed:
      raise UserError(
        f"attribute {attribute} has only {len(free)} of the {needed} images"
        " needed that no other attribute has taken; choose others with"
        " --config.data.attributes"
      )
    first = 0
    for split, count in _PER_ATTRIBUTE.items():
      names = free[first : first + count]
      splits[split].update(dict.fromkeys(names, attribute))
      first += count
    taken.update(free[:needed])
  return splits


_CITATION = """\
@inproceedings{liu2015faceattributes,
  title={Deep Learning Face Attributes in the Wild},
  author={Liu, Ziwei and Luo, Ping and Wang, Xiaogang and Tang, Xiaoou},
  booktitle={Proceedings of International Conference on Computer Vision (ICCV)},
  year={2015}
}
"""
