"""What holds for the builders of all data sets, on tiny archives."""

import pathlib

import numpy as np
import tensorflow_datasets as tfds

from experiments.data import prepared
from experiments.errors import UserError
from tests.support import sources


class BuilderTests:
  """Tests of a data set's builder; mixed into a test case with its `name`.

  Attributes:
    name: of the data set.
    refused_fields: fields of config.data that its images cannot satisfy, and
      how each is refused.
  """

  name: str
  refused_fields: tuple[tuple[dict[str, int], str], ...]

  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.create_tempdir())

  def test_every_image_arrives_with_its_label(self):
    expected = sources.write(self.name, self.root)
    splits = sources.load(self.name, self.root)
    counts = sources.SPLITS[self.name]
    # TFDS decodes by itself, without the builder's class.
    directory = next((self.root / "tfds").rglob("dataset_info.json")).parent
    builder = tfds.builder_from_directory(directory)
    features = builder.info.features
    label = builder.info.supervised_keys[1]
    labels = {
      image.tobytes(): label
      for pairs in expected.values()
      for image, label in pairs
    }
    seen = set()
    for ours, (theirs, count) in zip(
      ("train", "validation"), counts.items(), strict=True
    ):
      images = splits[ours].images
      self.assertLen(images, count)
      source = builder.as_data_source(split=theirs)
      for image, example in zip(images, source, strict=True):
        key = example["image"].tobytes()
        wanted, number = labels[key], example[label]
        if self.name == "celeba":
          self.assertIn(features[label].int2str(number), wanted)
        else:  # CelebA's are squares of it
          self.assertEqual(image.tobytes(), key)
          if isinstance(wanted, str):
            number = features[label].int2str(number)
          self.assertEqual(number, wanted)
        seen.add(key)
      if theirs in expected:
        stored = {example["image"].tobytes() for example in source}
        self.assertEqual(stored, {i.tobytes() for i, _ in expected[theirs]})
    self.assertLen(seen, sum(counts.values()))  # none twice

  def test_what_tfds_and_the_model_are_told(self):
    sources.write(self.name, self.root)
    splits = sources.load(self.name, self.root)
    directory = next((self.root / "tfds").rglob("dataset_info.json")).parent
    builder = tfds.builder_from_directory(directory)
    self.assertEqual(
      {split: info.num_examples for split, info in builder.info.splits.items()},
      sources.SPLITS[self.name],
    )
    self.assertIn("@", builder.info.citation)
    self.assertStartsWith(builder.info.homepage, "http")
    self.assertEqual(builder.info.file_format.value, "array_record")
    config = sources.CONFIGS[self.name].get_config().data
    for split, count in zip(
      splits.values(), sources.SPLITS[self.name].values(), strict=True
    ):
      size = config.image_size
      self.assertEqual(split.images.shape, (count, size, size, config.channels))
      self.assertEqual(split.images.dtype, np.uint8)

  def test_read_from_records_it_is_the_same(self):
    sources.write(self.name, self.root)
    memory = sources.load(self.name, self.root)
    records = sources.load(self.name, self.root, memory_budget_gib=0.0)
    for split in memory:
      self.assertIsInstance(memory[split].images, np.ndarray)
      self.assertIsInstance(records[split].images, prepared.Records)
      self.assertEqual(memory[split].images.shape, records[split].images.shape)
      indices = np.array([2, 0, 2, 3])
      np.testing.assert_array_equal(
        memory[split].images[indices], records[split].images[indices]
      )

  def test_what_the_images_cannot_be_is_told_first(self):
    # There are no archives, but that is not what is told.
    for fields, message in self.refused_fields:
      with self.assertRaisesRegex(UserError, f"config.data.{message}"):
        sources.load(self.name, self.root, **fields)


class StockTests:
  """Tests of a builder that takes the place of TFDS's own."""

  def test_stock_tfds_reads_it_by_its_name(self):
    sources.write(self.name, self.root)
    splits = sources.load(self.name, self.root)
    source = tfds.data_source(
      self.name, data_dir=self.root / "tfds", split="test"
    )
    images = [example["image"] for example in source]
    np.testing.assert_array_equal(images, splits["validation"].images)


class ResizableTests:
  """Tests of a builder whose images may be resized."""

  def test_other_sizes(self):
    sources.write(self.name, self.root)
    splits = sources.load(self.name, self.root, image_size=64)
    self.assertEqual(splits["train"].images.shape[1:], (64, 64, 3))
    splits = sources.load(self.name, self.root, image_size=64, resize_to=96)
    self.assertEqual(splits["train"].images.shape[1:], (96, 96, 3))
