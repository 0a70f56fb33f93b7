"""Tiny archives in the layouts of the data sets' sources."""

from collections.abc import Iterator
import contextlib
import dataclasses
import gzip
import io
import pathlib
import tarfile
import time
from unittest import mock
import zipfile

from absl.testing import parameterized
import ml_collections
import numpy as np
from PIL import Image

from experiments import data
from experiments.configs import celeba as celeba_config
from experiments.configs import cifar10 as cifar10_config
from experiments.configs import diabetic_retinopathy as retinopathy_config
from experiments.configs import fashion_mnist as fashion_mnist_config
from experiments.configs import mnist as mnist_config
from experiments.configs import tiny_imagenet as tiny_imagenet_config
from experiments.data import celeba
from experiments.data import cifar10
from experiments.data import diabetic_retinopathy
from experiments.data import fashion_mnist
from experiments.data import mnist
from experiments.data import tiny_imagenet
from experiments.errors import UserError

CONFIGS = {
  "mnist": mnist_config,
  "fashion_mnist": fashion_mnist_config,
  "cifar10": cifar10_config,
  "tiny_imagenet": tiny_imagenet_config,
  "celeba": celeba_config,
  "diabetic_retinopathy": retinopathy_config,
}
BUILDERS = {
  "mnist": mnist.MNIST,
  "fashion_mnist": fashion_mnist.FashionMNIST,
  "cifar10": cifar10.Cifar10,
  "tiny_imagenet": tiny_imagenet.TinyImagenet,
  "celeba": celeba.CelebaSubset,
  "diabetic_retinopathy": diabetic_retinopathy.DiabeticRetinopathy,
}
SPLITS = {  # of the tiny ones
  "mnist": {"train": 6, "test": 4},
  "fashion_mnist": {"train": 6, "test": 4},
  "cifar10": {"train": 10, "test": 4},
  "tiny_imagenet": {"train": 6, "validation": 4},
  "celeba": {"train": 16, "validation": 8},
  "diabetic_retinopathy": {"train": 8, "validation": 4},
}
RETINOPATHY_CLASSES = {
  "Healthy": 5,
  "Mild DR": 1,
  "Moderate DR": 3,
  "Proliferate DR": 1,
  "Severe DR": 2,
}


def config(name: str, root: pathlib.Path) -> ml_collections.ConfigDict:
  """Returns a config whose data lie under `root`."""
  result = CONFIGS[name].get_config()
  result.data.manual_dir = str(root / "archives")
  result.data.data_dir = str(root / "tfds")
  return result


def load(name: str, root: pathlib.Path, **fields):
  """Loads a data set as small as its tiny archives."""
  wanted = config(name, root)
  wanted.data.update(fields)
  with shrunk(name):
    return data.load(wanted)


@contextlib.contextmanager
def shrunk(name: str) -> Iterator[None]:
  """Makes a builder expect its tiny archives, without checksums."""
  builder = BUILDERS[name]
  unchecked = tuple(
    dataclasses.replace(archive, sha256=None, size=None)
    for archive in builder.ARCHIVES
  )
  with contextlib.ExitStack() as stack:
    for owner, attribute, value in (
      (builder, "ARCHIVES", unchecked),
      (builder, "SPLITS", SPLITS[name]),
      (tiny_imagenet, "_CLASSES", 3),
      (celeba, "_PER_ATTRIBUTE", {"train": 2, "validation": 1}),
      (diabetic_retinopathy, "_CLASSES", RETINOPATHY_CLASSES),
      (diabetic_retinopathy, "_VALIDATION", 4),
    ):
      stack.enter_context(mock.patch.object(owner, attribute, value))
    yield


def write(
  name: str, root: pathlib.Path
) -> dict[str, list[tuple[np.ndarray, object]]]:
  """Writes the archives, and returns the images and labels of each split.

  What the builder splits itself is under the key "all"; labels of CelebA are
  all that may be right.
  """
  directory = root / "archives"
  directory.mkdir(exist_ok=True)
  return _WRITERS[name](directory)


def picture(rng, width: int, height: int) -> np.ndarray:
  """Returns a smooth picture of its own colours."""
  corners = rng.integers(0, 256, (2, 2, 3)).astype(np.uint8)
  image = Image.fromarray(corners).resize((width, height), Image.BILINEAR)
  return np.asarray(image)


def encode(image: np.ndarray, form: str = "JPEG") -> bytes:
  file = io.BytesIO()
  Image.fromarray(image).save(file, format=form)
  return file.getvalue()


def decode(content: bytes) -> np.ndarray:
  return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def _write_idx(directory):
  rng = np.random.default_rng(0)
  images = {}
  for split, prefix, count in (("train", "train", 6), ("test", "t10k", 4)):
    pixels = rng.integers(0, 256, (count, 28, 28)).astype(np.uint8)
    header = np.array([2051, count, 28, 28], ">i4").tobytes()
    path = directory / f"{prefix}-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(header + pixels.tobytes()))
    header = np.array([2049, count], ">i4").tobytes()
    path = directory / f"{prefix}-labels-idx1-ubyte.gz"
    path.write_bytes(gzip.compress(header + bytes(range(count))))
    images[split] = [(image[..., None], i) for i, image in enumerate(pixels)]
  return images


def _write_cifar10(directory):
  rng = np.random.default_rng(0)
  files = {"batches.meta.txt": b"\n".join(b"class%d" % i for i in range(10))}
  images = {"train": [], "test": []}
  for split, names in cifar10.FILES.items():
    for name in names:
      count = SPLITS["cifar10"][split] // len(names)
      pixels = rng.integers(0, 256, (count, 3, 32, 32)).astype(np.uint8)
      labels = rng.integers(0, 10, count)
      files[name] = b"".join(
        bytes([label]) + image.tobytes()
        for label, image in zip(labels, pixels, strict=True)
      )
      images[split] += zip(pixels.transpose(0, 2, 3, 1), labels, strict=True)
  with tarfile.open(directory / "cifar-10-binary.tar.gz", "w:gz") as tar:
    for name, content in files.items():
      member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
      member.size = len(content)
      tar.addfile(member, io.BytesIO(content))
  return images


def _write_tiny_imagenet(directory):
  rng = np.random.default_rng(0)
  folder = "tiny-imagenet-200"
  classes = ["n01443537", "n01629819", "n01641577"]
  images = {"train": [], "validation": []}
  with zipfile.ZipFile(directory / f"{folder}.zip", "w") as zipped:

    def add(name, split=None, label=None):
      content = encode(picture(rng, 64, 64))
      zipped.writestr(f"{folder}/{name}", content)
      if split:
        images[split].append((decode(content), label))

    zipped.writestr(f"{folder}/wnids.txt", "\n".join(classes) + "\n")
    zipped.writestr(f"{folder}/words.txt", "n01443537\tgoldfish\n")
    zipped.writestr(f"{folder}/train/", "")
    for label in classes:
      zipped.writestr(f"{folder}/train/{label}/images/", "")
      zipped.writestr(f"{folder}/train/{label}/{label}_boxes.txt", "")
      for i in range(2):
        add(f"train/{label}/images/{label}_{i}.JPEG", "train", label)
    lines = []
    for i in range(4):
      label = classes[i % 3]
      add(f"val/images/val_{i}.JPEG", "validation", label)
      lines.append(f"val_{i}.JPEG\t{label}\t0\t32\t44\t62\n")
    zipped.writestr(f"{folder}/val/val_annotations.txt", "".join(lines))
    add("test/images/test_0.JPEG")
  return images


def _write_celeba(directory):
  rng = np.random.default_rng(0)
  chosen = celeba_config.get_config().data.attributes
  rows, images = [], []
  with zipfile.ZipFile(directory / "img_align_celeba.zip", "w") as zipped:
    for i in range(40):
      name = f"{i + 1:06d}.jpg"
      has = {chosen[i % 8], chosen[i // 8]}
      values = " ".join(
        " 1" if attribute in has else "-1" for attribute in celeba.ATTRIBUTES
      )
      rows.append(f"{name} {values}\n")
      content = encode(picture(rng, 178, 218))
      zipped.writestr(f"img_align_celeba/{name}", content)
      images.append((decode(content), has))
  table = directory / "list_attr_celeba.txt"
  heading = " ".join(celeba.ATTRIBUTES)
  table.write_text(f"{len(rows)}\n{heading} \n{''.join(rows)}")
  return {"all": images}


def _write_retinopathy(directory):
  rng = np.random.default_rng(0)
  images = []
  path = directory / "diabetic-retinopathy-dataset.zip"
  with zipfile.ZipFile(path, "w") as zipped:
    for label, count in RETINOPATHY_CLASSES.items():
      for i in range(count):
        image = picture(rng, 256, 256)
        zipped.writestr(f"{label}/{label}_{i}.png", encode(image, "PNG"))
        images.append((image, label))
  return {"all": images}


_WRITERS = {
  "mnist": _write_idx,
  "fashion_mnist": _write_idx,
  "cifar10": _write_cifar10,
  "tiny_imagenet": _write_tiny_imagenet,
  "celeba": _write_celeba,
  "diabetic_retinopathy": _write_retinopathy,
}


class TestCase(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.create_tempdir())
    self.archives = self.root / "archives"
    self.mnist = self.root / "tfds" / "mnist" / "3.0.1"

  def refused(self, message, name="mnist", **fields):
    """Loading must say so, in one line, at once, and leave nothing behind."""
    started = time.monotonic()
    with self.assertRaisesRegex(UserError, message) as caught:
      load(name, self.root, **fields)
    self.assertLess(time.monotonic() - started, 20)
    self.assertNotIn("\n", str(caught.exception))
    prepared_sets = list((self.root / "tfds").rglob("dataset_info.json"))
    self.assertEmpty(prepared_sets)
    return str(caught.exception)

  def rewrite(self, path, change):
    """Changes files of a zip; None leaves one out."""
    with zipfile.ZipFile(path) as old:
      files = {name: old.read(name) for name in old.namelist()}
    files.update(change)
    with zipfile.ZipFile(path, "w") as new:
      for name, content in files.items():
        if content is not None:
          new.writestr(name, content)
