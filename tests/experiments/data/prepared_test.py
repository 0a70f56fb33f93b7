"""Reading prepared data sets, and what can go wrong."""

import gzip
import hashlib
import json
import pathlib
import shutil
from unittest import mock

from absl.testing import parameterized
import numpy as np
from PIL import Image
import pytest
import tensorboardX
import tensorflow_datasets as tfds
from tensorflow_datasets.testing import mocking

from experiments import data
from experiments.data import images
from experiments.data import preparation
from experiments.errors import UserError
from tests.support import sources
from tests.support.commands import run_main

_RAW_BYTES = tfds.decode.DeserializeMethod.RAW_BYTES
_DEBIAN = pathlib.Path("/usr/share/datasets/fashion-mnist")


class DamagedRecordsTest(sources.TestCase):
  def setUp(self):
    super().setUp()
    sources.write("mnist", self.root)
    self.images = sources.load("mnist", self.root)["train"].images
    (self.records,) = self.mnist.glob("mnist-train.array_record*")

  def damaged(self, message):
    with self.assertRaisesRegex(UserError, message) as caught:
      sources.load("mnist", self.root)
    self.assertNotIn("\n", str(caught.exception))
    self.assertIn("move the directory away", str(caught.exception))

  def test_missing(self):
    self.records.unlink()
    self.damaged("3.0.1 is damaged, split train")

  def test_cut_short(self):
    content = self.records.read_bytes()
    for length in (0, 70, len(content) // 2):
      self.records.write_bytes(content[:length])
      self.damaged("3.0.1 is damaged, split train")

  def test_a_flipped_byte_is_found_or_harmless(self):
    content = self.records.read_bytes()
    rng = np.random.default_rng(0)
    for place in rng.integers(0, len(content), 40):
      bad = bytearray(content)
      bad[place] ^= 1 << rng.integers(8)
      self.records.write_bytes(bad)
      try:
        images = sources.load("mnist", self.root)["train"].images
      except UserError:
        continue
      np.testing.assert_array_equal(images, self.images)

  def test_another_number_of_images(self):
    with mock.patch.dict(sources.SPLITS, {"mnist": {"train": 7, "test": 4}}):
      self.damaged("has 6 images in the split train; it must have 7")

  def test_no_description(self):
    (self.mnist / "dataset_info.json").unlink()
    self.damaged("3.0.1 is damaged")

  @parameterized.parameters("", "{", '{"version": "9.9.9"}')
  def test_a_damaged_description(self, content):
    (self.mnist / "dataset_info.json").write_text(content)
    self.damaged("mnist.* is damaged")


class PreparedWithTensorFlowTest(sources.TestCase):
  """A user's own ~/tensorflow_datasets holds TFRecords, most often."""

  def test_tfrecords_are_read(self):
    sources.write("mnist", self.root)
    expected = sources.load("mnist", self.root)
    raw = tfds.decode.SkipDecoding()
    del raw
    builder = tfds.builder_from_directory(self.mnist)
    for split in ("train", "test"):
      source = builder.as_data_source(
        split=split, deserialize_method=_RAW_BYTES
      )
      writer = tensorboardX.record_writer.RecordWriter(
        str(self.mnist / f"mnist-{split}.tfrecord-00000-of-00001")
      )
      for i in range(len(source)):
        writer.write(source[i])
      writer.close()
    info = self.mnist / "dataset_info.json"
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    for path in (*self.mnist.glob("*array_record*"), *self.mnist.glob("*.npy")):
      path.unlink()
    for budget in (4.0, 0.0):
      splits = sources.load("mnist", self.root, memory_budget_gib=budget)
      for split in splits:
        np.testing.assert_array_equal(
          splits[split].images[np.arange(4)],
          expected[split].images[np.arange(4)],
        )


class MockedTest(sources.TestCase):
  """With TFDS's own stand-ins for data that are not here."""

  @parameterized.parameters(*sources.BUILDERS)
  def test_every_config(self, name):
    builder = sources.BUILDERS[name]
    counts = dict.fromkeys(builder.SPLITS, 5)

    class Examples(list):
      def __getitems__(self, keys):
        return [self[key] for key in keys]

    def as_data_source(builder, **_):
      made = mocking.RandomFakeGenerator(builder.info.features, 5)
      return Examples(
        {"image": images.to_png(Image.fromarray(example["image"].squeeze()))}
        for example in (made[i] for i in range(5))
      )

    with (
      tfds.testing.mock_data(as_data_source_fn=as_data_source),
      mock.patch.object(preparation.archives, "find", lambda *_: {"any": "/"}),
      mock.patch.object(builder, "SPLITS", counts),
    ):
      config = sources.config(name, self.root)
      splits = data.load(config)
    size = config.data.image_size
    for split in splits.values():
      self.assertEqual(
        split.images.shape, (5, size, size, config.data.channels)
      )


@pytest.mark.slow
class DebianTest(sources.TestCase):
  """Needs Debian's package dataset-fashion-mnist."""

  def load(self, manual_dir):
    config = sources.config("fashion_mnist", self.root)
    config.data.manual_dir = str(manual_dir)
    return data.load(config)

  def train(self):
    result = run_main(
      f"--config.data.manual_dir={_DEBIAN}",
      f"--config.data.data_dir={self.root / 'tfds'}",
      f"--workdir={self.root / 'run'}",
      "--config.num_steps=20",
      "--config.model.features=8",
      "--config.quantizer.capacity=64",
      "--config.rate_examples=640",
      name="fashion_mnist",
    )
    self.assertEqual(result.returncode, 0, result.stderr)
    summary = json.loads((self.root / "run" / "summary.json").read_text())
    self.assertEqual(summary["steps"], 20)
    # The paper's batches of 64 from 10,000 images.
    self.assertAlmostEqual(
      summary["recon_loss_sum"], summary["mse"] * 10_000 / 64, places=9
    )
    self.assertTrue((self.root / "run" / "reconstructions.png").exists())

  def test_the_real_fashion_mnist(self):
    self.train()  # which prepares it
    splits = self.load("/nowhere")
    self.assertEqual(splits["train"].images.shape, (60_000, 28, 28, 1))
    self.assertEqual(splits["validation"].images.shape, (10_000, 28, 28, 1))
    for ours, theirs, prefix, first, last in (
      ("train", "train", "train", "94389a5b82ced929", "bf157398137a1e89"),
      ("validation", "test", "t10k", "82fa99c8cd9066fb", "fcd1d9fabc8e4a4a"),
    ):
      # Stock TFDS reads it.
      source = tfds.data_source(
        "fashion_mnist", data_dir=self.root / "tfds", split=theirs
      )
      images = splits[ours].images
      for i, digest in ((0, first), (-1, last)):
        self.assertStartsWith(
          hashlib.sha256(images[i].tobytes()).hexdigest(), digest
        )
      pairs = [(e["image"].tobytes(), int(e["label"])) for e in source]
      np.testing.assert_array_equal(
        np.bincount([label for _, label in pairs]),
        np.full(10, len(images) // 10),
      )
      self.assertEqual([key for key, _ in pairs], [i.tobytes() for i in images])
      arrays = []
      for kind, header in (("images-idx3", 16), ("labels-idx1", 8)):
        with gzip.open(_DEBIAN / f"{prefix}-{kind}-ubyte.gz") as archive:
          arrays.append(np.frombuffer(archive.read(), np.uint8, offset=header))
      pixels, labels = arrays
      expected = zip(pixels.reshape(-1, 784), labels.tolist(), strict=True)
      self.assertEqual(
        sorted(pairs), sorted((image.tobytes(), n) for image, n in expected)
      )

  def test_a_truncated_archive(self):
    shutil.copytree(_DEBIAN, self.archives)
    path = self.archives / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-1000])
    with self.assertRaisesRegex(UserError, "t10k-images.*is damaged"):
      self.load(self.archives)
