import gzip
import pathlib
import shutil
import time

from absl.testing import parameterized
import ml_collections
import numpy as np
import pytest
import tensorflow_datasets as tfds

from experiments.data import fashion_mnist
from experiments.errors import UserError

DEBIAN = pathlib.Path("/usr/share/datasets/fashion-mnist")
NAMES = tuple(fashion_mnist._PAYLOAD_SHA256)


def load(directory, archives):
  return fashion_mnist.load(
    ml_collections.ConfigDict(
      {"data_dir": str(directory), "manual_dir": str(archives)}
    )
  )


class BadArchivesTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.create_tempdir())
    self.archives = self.root / "archives"
    self.archives.mkdir()

  def refused(self, message):
    started = time.monotonic()
    with self.assertRaisesRegex(UserError, message) as error:
      load(self.root / "tfds", self.archives)
    self.assertLess(time.monotonic() - started, 20)
    self.assertNotIn("\n", str(error.exception))
    self.assertIn("--config.data.manual_dir", str(error.exception))
    self.assertFalse((self.root / "tfds" / "fashion_mnist" / "3.0.1").exists())

  def test_missing(self):
    self.refused("train-images-idx3-ubyte.gz is missing.*dataset-fashion-mnist")

  @parameterized.parameters(b"", b"no gzip", gzip.compress(b"x" * 99)[:-9])
  def test_damaged(self, content):
    (self.archives / NAMES[0]).write_bytes(content)
    self.refused("train-images-idx3-ubyte.gz (is damaged|does not hold)")

  def test_something_else(self):
    (self.archives / NAMES[0]).write_bytes(gzip.compress(b"another file"))
    self.refused("does not hold Fashion-MNIST's train-images.*SHA-256")


@pytest.mark.slow
class DebianTest(parameterized.TestCase):
  """Needs Debian's package dataset-fashion-mnist."""

  def test_archives_as_they_are(self):
    root = pathlib.Path(self.create_tempdir())
    splits = load(root, DEBIAN)
    self.assertEqual(splits["train"].images.shape, (60_000, 28, 28, 1))
    self.assertEqual(splits["validation"].images.shape, (10_000, 28, 28, 1))
    with gzip.open(DEBIAN / "t10k-images-idx3-ubyte.gz") as archive:
      pixels = np.frombuffer(archive.read(), np.uint8, offset=16)

    def as_set(images):
      return {image.tobytes() for image in images.reshape(-1, 784)}

    self.assertEqual(as_set(splits["validation"].images), as_set(pixels))
    # Stock TFDS reads it, and it is read again without the archives.
    stock = tfds.data_source("fashion_mnist", data_dir=root, split="train")
    self.assertLen(stock, 60_000)
    np.testing.assert_array_equal(stock[0]["image"], splits["train"].images[0])
    again = load(root, "/nowhere")
    np.testing.assert_array_equal(again["train"].images, splits["train"].images)

  def test_a_truncated_archive(self):
    root = pathlib.Path(self.create_tempdir())
    archives = root / "archives"
    shutil.copytree(DEBIAN, archives)
    path = archives / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-1000])
    with self.assertRaisesRegex(UserError, "t10k-images.*is damaged"):
      load(root / "tfds", archives)
