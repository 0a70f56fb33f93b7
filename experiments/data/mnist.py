"""MNIST, under TFDS's name and version of it."""

from collections.abc import Iterator
from collections.abc import Mapping
import pathlib
from typing import Any

import ml_collections
import numpy as np
from PIL import Image
from tensorflow_datasets.image_classification import mnist

from experiments.data import archives
from experiments.data import images
from experiments.data import prepared
from experiments.data.archives import Archive
from experiments.data.builder import ArchiveBuilder
from experiments.data.builder import Examples
from experiments.data.split import Split
from experiments.errors import UserError

_SIDE = 28
_PREFIXES = {"train": "train", "test": "t10k"}


def load(config: ml_collections.ConfigDict) -> dict[str, Split]:
  """Returns "train" (60,000 images) and "validation" (10,000, TFDS's "test").

  See `prepared.load`.
  """
  return prepared.load(MNIST, config)


def idx_archives(
  url: str, sha256: Mapping[str, str], hint: str = ""
) -> tuple[Archive, ...]:
  """Returns the four archives of a data set in MNIST's format.

  Args:
    url: the address of the directory with all of them.
    sha256: the hashes of the unpacked files, by the archives' names.
    hint: more about how a person gets them.
  """
  return tuple(
    Archive(name, url=f"{url}{name}", hint=hint, sha256=digest)
    for name, digest in sha256.items()
  )


class IdxBuilder(ArchiveBuilder, skip_registration=True):
  """Reads images and labels in MNIST's format, idx."""

  SPLITS = {"train": 60_000, "test": 10_000}

  def read_archives(
    self, paths: Mapping[str, pathlib.Path]
  ) -> dict[str, Examples]:
    by_name = {archive.name: archive for archive in self.ARCHIVES}

    def read(name: str, header: int) -> np.ndarray:
      content = archives.unpack_gzip(by_name[name], paths[name])
      return np.frombuffer(content, np.uint8, offset=min(header, len(content)))

    splits = {}
    for split, prefix in _PREFIXES.items():
      name = f"{prefix}-images-idx3-ubyte.gz"
      pixels = read(name, 16)
      labels = read(f"{prefix}-labels-idx1-ubyte.gz", 8)
      if pixels.size != labels.size * _SIDE**2:
        raise UserError(
          f"archive {paths[name]} holds {pixels.size / _SIDE**2:g} images for"
          f" {labels.size} labels; {archives.remedy(by_name[name])}"
        )
      if labels.max(initial=0) > 9:
        raise UserError(
          f"archive {paths[name]} goes with labels above 9;"
          f" {archives.remedy(by_name[name])}"
        )
      splits[split] = _examples(pixels.reshape(-1, _SIDE, _SIDE), labels)
    return splits


def _examples(
  pixels: np.ndarray, labels: np.ndarray
) -> Iterator[tuple[int, dict[str, Any]]]:
  for i, (image, label) in enumerate(zip(pixels, labels, strict=True)):
    png = images.to_png(Image.fromarray(image))
    yield i, {"image": png, "label": int(label)}


class MNIST(IdxBuilder, mnist.MNIST, skip_registration=True):
  """TFDS's builder, without TensorFlow."""

  url_infos = mnist.MNIST.url_infos
  ARCHIVES = idx_archives(
    mnist.MNIST.URL,
    {
      "train-images-idx3-ubyte.gz": (
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"
      ),
      "train-labels-idx1-ubyte.gz": (
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"
      ),
      "t10k-images-idx3-ubyte.gz": (
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"
      ),
      "t10k-labels-idx1-ubyte.gz": (
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"
      ),
    },
  )
