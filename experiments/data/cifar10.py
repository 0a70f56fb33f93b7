"""CIFAR-10, under TFDS's name and version of it."""

from collections.abc import Iterator
from collections.abc import Mapping
import pathlib
from typing import Any

import ml_collections
import numpy as np
from PIL import Image
from tensorflow_datasets.image_classification import cifar

from experiments.data import archives
from experiments.data import images
from experiments.data import prepared
from experiments.data.archives import Archive
from experiments.data.builder import ArchiveBuilder
from experiments.data.builder import Examples
from experiments.data.split import Split
from experiments.errors import UserError

_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
_SIDE = 32
_RECORD = 1 + 3 * _SIDE**2  # bytes: the label, then one plane a colour
_FOLDER = "cifar-10-batches-bin"
FILES = {
  "train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
  "test": ("test_batch.bin",),
}
_LABELS = "batches.meta.txt"


def load(config: ml_collections.ConfigDict) -> dict[str, Split]:
  """Returns "train" (50,000 images) and "validation" (10,000, TFDS's "test").

  See `prepared.load`.
  """
  return prepared.load(Cifar10, config)


class Cifar10(ArchiveBuilder, cifar.Cifar10, skip_registration=True):
  """TFDS's builder, without TensorFlow."""

  url_infos = cifar.Cifar10.url_infos
  ARCHIVES = (
    Archive(
      "cifar-10-binary.tar.gz",
      url=_URL,
      sha256=url_infos[_URL].checksum,
      size=url_infos[_URL].size,
    ),
  )
  SPLITS = {"train": 50_000, "test": 10_000}

  def read_archives(
    self, paths: Mapping[str, pathlib.Path]
  ) -> dict[str, Examples]:
    (archive,) = self.ARCHIVES
    path = paths[archive.name]
    names = [_LABELS, *FILES["train"], *FILES["test"]]
    content = archives.read_tar(
      archive, path, [f"{_FOLDER}/{name}" for name in names]
    )
    with archives.reading(archive, path):
      labels = content[f"{_FOLDER}/{_LABELS}"].decode().split()
    if len(labels) != self.info.features["label"].num_classes:
      raise UserError(
        f"archive {path} names {len(labels)} classes in {_LABELS}; it must"
        f" name 10; {archives.remedy(archive)}"
      )
    with archives.reading(archive, path):
      self.info.features["label"].names = labels
    splits = {}
    for split, files in FILES.items():
      data = b"".join(content[f"{_FOLDER}/{name}"] for name in files)
      if len(data) % _RECORD:
        raise UserError(
          f"archive {path} has a damaged file among {', '.join(files)}: no"
          f" whole number of images; {archives.remedy(archive)}"
        )
      if max(data[::_RECORD], default=0) >= len(labels):
        raise UserError(
          f"archive {path} has a damaged file among {', '.join(files)}: a label"
          f" above 9; {archives.remedy(archive)}"
        )
      splits[split] = _examples(split, data)
    return splits


def _examples(split: str, data: bytes) -> Iterator[tuple[int, dict[str, Any]]]:
  records = np.frombuffer(data, np.uint8).reshape(-1, _RECORD)
  for i, record in enumerate(records):
    planes = record[1:].reshape(3, _SIDE, _SIDE)
    yield (
      i,
      {
        "id": f"{split}_{i:05d}",
        "image": images.to_png(Image.fromarray(planes.transpose(1, 2, 0))),
        "label": int(record[0]),
      },
    )
