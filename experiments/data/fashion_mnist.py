"""Fashion-MNIST through TFDS, without TensorFlow.

It is prepared under its stock name and version, as array_record, so that stock
TFDS reads what was prepared here, and the other way round.
"""

from collections.abc import Iterator
import gzip
import hashlib
import io
import pathlib
import urllib.parse
import urllib.request
import zlib

import ml_collections
import numpy as np
from PIL import Image
import tensorflow_datasets as tfds
from tensorflow_datasets.core import registered
from tensorflow_datasets.image_classification import mnist

from experiments.data.split import Split
from experiments.errors import UserError

# Of the idx files inside the archives: another gzip of the same file, such as
# Debian's, is as good.
_PAYLOAD_SHA256 = {
  "train-images-idx3-ubyte.gz": (
    "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"
  ),
  "train-labels-idx1-ubyte.gz": (
    "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"
  ),
  "t10k-images-idx3-ubyte.gz": (
    "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"
  ),
  "t10k-labels-idx1-ubyte.gz": (
    "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"
  ),
}
_URLS = {
  name: urllib.parse.urljoin(mnist.FashionMNIST.URL, name)
  for name in _PAYLOAD_SHA256
}
_REMEDY = (
  f"fetch it from {mnist.FashionMNIST.URL} (or install Debian's package"
  " dataset-fashion-mnist) and name its directory with"
  " --config.data.manual_dir=DIR"
)
_CONNECT_SECONDS = 10
_READ_AT_ONCE = 2048


def load(config: ml_collections.ConfigDict) -> dict[str, Split]:
  """Returns "train" (60,000 images) and "validation" (10,000, TFDS's "test").

  Args:
    config: `config.data` of an experiment.  `manual_dir` holds the four
      archives; "" downloads them.  `data_dir` is where TFDS keeps what it has
      prepared; "" for TFDS's default, `~/tensorflow_datasets`.

  Raises:
    UserError: if an archive is missing or damaged, or cannot be downloaded, or
      what TFDS has prepared is not array_record.
  """
  builder = FashionMNIST(
    data_dir=config.data_dir or None, file_format="array_record"
  )
  if not pathlib.Path(builder.data_path).exists():
    if config.manual_dir:
      builder.archives = _find(pathlib.Path(config.manual_dir))
    else:
      _check_connection()
    builder.download_and_prepare(
      download_config=tfds.download.DownloadConfig(try_download_gcs=False)
    )
  return {
    "train": _read(builder, "train"),
    "validation": _read(builder, "test"),
  }


with registered.skip_registration():

  class FashionMNIST(mnist.FashionMNIST):
    """The stock builder, reading its archives with gzip and NumPy.

    Attributes:
      archives: where each archive is, by file name; None to download them.
    """

    url_infos = mnist.FashionMNIST.url_infos
    archives: dict[str, pathlib.Path] | None = None

    def _split_generators(
      self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator]:
      archives = self.archives or dl_manager.download(_URLS)
      payloads = {
        name: _unpack(name, pathlib.Path(path))
        for name, path in archives.items()
      }
      return {
        split: self._generate_examples(
          payloads[f"{prefix}-images-idx3-ubyte.gz"],
          payloads[f"{prefix}-labels-idx1-ubyte.gz"],
        )
        for split, prefix in (("train", "train"), ("test", "t10k"))
      }

    def _generate_examples(
      self, images: bytes, labels: bytes
    ) -> Iterator[tuple[int, dict[str, object]]]:
      pixels = np.frombuffer(images, np.uint8, offset=16)
      numbers = np.frombuffer(labels, np.uint8, offset=8)
      for i, image in enumerate(pixels.reshape(-1, *mnist.MNIST_IMAGE_SHAPE)):
        png = io.BytesIO()
        Image.fromarray(image[..., 0]).save(png, format="PNG")
        png.seek(0)
        yield i, {"image": png, "label": int(numbers[i])}


def _find(directory: pathlib.Path) -> dict[str, pathlib.Path]:
  archives = {name: directory / name for name in _PAYLOAD_SHA256}
  for name, path in archives.items():
    if not path.is_file():
      raise UserError(f"archive {path} is missing; {_REMEDY}")
    _unpack(name, path)  # before TFDS starts to write
  return archives


def _unpack(name: str, path: pathlib.Path) -> bytes:
  try:
    payload = gzip.decompress(path.read_bytes())
  except (OSError, EOFError, zlib.error) as error:
    raise UserError(
      f"archive {path} is damaged ({error}); {_REMEDY}"
    ) from error
  if hashlib.sha256(payload).hexdigest() != _PAYLOAD_SHA256[name]:
    raise UserError(
      f"archive {path} does not hold Fashion-MNIST's {name} (its SHA-256"
      f" differs); {_REMEDY}"
    )
  return payload


def _check_connection() -> None:
  """TFDS would try for minutes before it says that there is no network."""
  name, url = next(iter(_URLS.items()))
  request = urllib.request.Request(url, method="HEAD")
  try:
    urllib.request.urlopen(request, timeout=_CONNECT_SECONDS).close()
  except OSError as error:
    raise UserError(
      f"archive {name} cannot be downloaded ({error}); {_REMEDY}"
    ) from error


def _read(builder: tfds.core.DatasetBuilder, split: str) -> Split:
  try:
    source = builder.as_data_source(split=split)
  except NotImplementedError as error:
    raise UserError(
      f"{builder.data_path} is not in TFDS's array_record format; name"
      " another directory with --config.data.data_dir=DIR"
    ) from error
  images = np.empty((len(source), *mnist.MNIST_IMAGE_SHAPE), np.uint8)
  for start in range(0, len(source), _READ_AT_ONCE):
    indices = range(start, min(start + _READ_AT_ONCE, len(source)))
    examples = source.__getitems__(list(indices))
    for i, example in zip(indices, examples, strict=True):
      images[i] = example["image"]
  return Split(images, np.zeros(len(images), np.int32))
