"""All builders, on tiny archives in their sources' layouts."""

import pathlib
from unittest import mock
import zipfile

from absl.testing import parameterized
import numpy as np
import tensorflow_datasets as tfds

from experiments.data import celeba
from experiments.data import diabetic_retinopathy
from experiments.data import prepared
from experiments.errors import UserError
from tests.experiments.data import sources

NAMES = tuple(sources.BUILDERS)


def as_sorted(images):
  return sorted(np.asarray(image).tobytes() for image in images)


def stored(builder, split):
  """What TFDS's own reading gives, without the builder's class."""
  again = tfds.builder_from_directory(builder.data_path)
  return list(again.as_data_source(split=split))


class BuildersTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.create_tempdir())

  @parameterized.parameters(*NAMES)
  def test_every_image_arrives(self, name):
    expected = sources.write(name, self.root)
    splits = sources.load(name, self.root)
    counts = sources.SPLITS[name]
    config = sources.CONFIGS[name].get_config().data
    size = config.image_size
    for ours, (theirs, count) in zip(
      ("train", "validation"), counts.items(), strict=True
    ):
      images = splits[ours].images
      self.assertEqual(images.shape, (count, size, size, config.channels))
      self.assertEqual(images.dtype, np.uint8)
      if theirs in expected and name != "celeba":
        self.assertEqual(as_sorted(images), as_sorted(expected[theirs]))
    both = as_sorted([*splits["train"].images, *splits["validation"].images])
    self.assertLen(set(both), sum(counts.values()))
    if name == "diabetic_retinopathy":
      self.assertEqual(both, as_sorted(expected["all"]))

  @parameterized.parameters(*NAMES)
  def test_what_tfds_is_told(self, name):
    sources.write(name, self.root)
    splits = sources.load(name, self.root)
    with sources.shrunk(name):
      directory = next((self.root / "tfds").rglob("dataset_info.json")).parent
      builder = tfds.builder_from_directory(directory)
    self.assertEqual(
      {split: info.num_examples for split, info in builder.info.splits.items()},
      sources.SPLITS[name],
    )
    self.assertIn("@", builder.info.citation)
    self.assertStartsWith(builder.info.homepage, "http")
    self.assertEqual(builder.info.file_format.value, "array_record")
    self.assertLen(builder.info.supervised_keys, 2)
    label = builder.info.supervised_keys[1]
    # TFDS, decoding by itself, sees the images in the same order.
    for ours, theirs in zip(splits, sources.SPLITS[name], strict=True):
      source = builder.as_data_source(split=theirs)
      for i, example in enumerate(source):
        self.assertBetween(
          example[label], 0, builder.info.features[label].num_classes - 1
        )
        if name != "celeba":  # of which we take squares
          np.testing.assert_array_equal(
            example["image"], splits[ours].images[i]
          )

  @parameterized.parameters("mnist", "fashion_mnist", "cifar10")
  def test_stock_tfds_reads_it_by_its_name(self, name):
    sources.write(name, self.root)
    splits = sources.load(name, self.root)
    source = tfds.data_source(name, data_dir=self.root / "tfds", split="test")
    images = [example["image"] for example in source]
    np.testing.assert_array_equal(images, splits["validation"].images)

  @parameterized.parameters(*NAMES)
  def test_read_from_records_it_is_the_same(self, name):
    sources.write(name, self.root)
    memory = sources.load(name, self.root)
    records = sources.load(name, self.root, memory_budget_gib=0.0)
    for split in memory:
      self.assertIsInstance(memory[split].images, np.ndarray)
      self.assertIsInstance(records[split].images, prepared._Records)
      self.assertEqual(memory[split].images.shape, records[split].images.shape)
      indices = np.array([2, 0, 2, 3])
      np.testing.assert_array_equal(
        memory[split].images[indices], records[split].images[indices]
      )

  @parameterized.parameters(
    ("mnist", "28 x 28"), ("cifar10", "32 x 32"), ("tiny_imagenet", "64 x 64")
  )
  def test_images_smaller_than_the_models(self, name, size):
    sources.write(name, self.root)
    wanted = sources.config(name, self.root)
    wanted.data.image_size = 68
    with (
      sources.shrunk(name),
      self.assertRaisesRegex(
        UserError, f"image_size is 68; images of {name} are {size}"
      ),
    ):
      sources.data.load(wanted)

  @parameterized.parameters("celeba", "diabetic_retinopathy")
  def test_other_sizes(self, name):
    sources.write(name, self.root)
    splits = sources.load(name, self.root, image_size=64)
    self.assertEqual(splits["train"].images.shape[1:], (64, 64, 3))
    splits = sources.load(name, self.root, image_size=64, resize_to=96)
    self.assertEqual(splits["train"].images.shape[1:], (96, 96, 3))


class CelebaTest(parameterized.TestCase):
  def test_the_choice(self):
    self.enter_context(
      mock.patch.object(celeba, "_PER_ATTRIBUTE", {"train": 3, "validation": 1})
    )
    names = [f"{i:06d}.jpg" for i in range(100)]
    members = {"common": names, "rare": names[:9], "other": names[5:50]}
    chosen = celeba._choose(members)
    both = [*chosen["train"], *chosen["validation"]]
    self.assertLen(set(both), 12)  # none twice
    for split, count in (("train", 3), ("validation", 1)):
      labels = list(chosen[split].values())
      for attribute in members:
        self.assertEqual(labels.count(attribute), count)
    for split in chosen.values():
      for name, attribute in split.items():
        self.assertIn(name, members[attribute])
    # The order in which attributes and images are listed does not matter.
    shuffled = {k: members[k][::-1] for k in ("other", "common", "rare")}
    self.assertEqual(celeba._choose(shuffled), chosen)
    # As sha256sum orders "celeba/0/000000.jpg" and so on.
    self.assertEqual(
      sorted(name for name, a in chosen["train"].items() if a == "rare"),
      ["000001.jpg", "000006.jpg", "000007.jpg"],
    )

  def test_too_few_images(self):
    self.enter_context(
      mock.patch.object(celeba, "_PER_ATTRIBUTE", {"train": 3, "validation": 1})
    )
    names = [f"{i:06d}.jpg" for i in range(7)]
    with self.assertRaisesRegex(
      UserError, "attribute b has only 3 of the 4 images.*config.data.attr"
    ):
      celeba._choose({"a": names, "b": names})

  @parameterized.parameters(
    (("Bald", "Handsome"), "attributes has 'Handsome'; known are 5_o_Clock"),
    (("Bald",), "must be eight different"),
    (("Bald",) * 8, "must be eight different"),
  )
  def test_wrong_attributes(self, attributes, message):
    root = pathlib.Path(self.create_tempdir())
    wanted = sources.config("celeba", root)
    wanted.data.attributes = attributes
    with self.assertRaisesRegex(UserError, message):
      sources.data.load(wanted)

  def test_the_squares_are_centred(self):
    root = pathlib.Path(self.create_tempdir())
    expected = sources.write("celeba", root)["all"]
    splits = sources.load("celeba", root, image_size=178)
    squares = {image[20:198].tobytes() for image in expected}
    for split in splits.values():
      for image in split.images:
        self.assertIn(image.tobytes(), squares)

  def test_other_attributes_are_another_data_set(self):
    root = pathlib.Path(self.create_tempdir())
    sources.write("celeba", root)
    first = sources.load("celeba", root)
    chosen = list(sources.config("celeba", root).data.attributes)
    same = sources.load("celeba", root, attributes=tuple(chosen[::-1]))
    np.testing.assert_array_equal(first["train"].images, same["train"].images)
    self.assertLen(list((root / "tfds" / "celeba_subset").iterdir()), 1)


class DiabeticRetinopathyTest(parameterized.TestCase):
  def test_shares_by_hand(self):
    # 250 of 2,750 are 90.9, 33.6, 81.8, 26.4 and 17.3.
    self.assertEqual(
      diabetic_retinopathy.shares(diabetic_retinopathy._CLASSES, 250),
      {
        "Healthy": 91,
        "Mild DR": 34,
        "Moderate DR": 82,
        "Proliferate DR": 26,
        "Severe DR": 17,
      },
    )
    self.assertEqual(sum(diabetic_retinopathy._CLASSES.values()), 2750)

  def test_validation_is_stratified(self):
    root = pathlib.Path(self.create_tempdir())
    sources.write("diabetic_retinopathy", root)
    sources.load("diabetic_retinopathy", root)
    directory = next((root / "tfds").rglob("dataset_info.json")).parent
    source = tfds.builder_from_directory(directory).as_data_source()
    # 4 of 5, 1, 3, 1 and 2 images: 1.7, 0.3, 1, 0.3 and 0.7.
    labels = [example["label"] for example in source["validation"]]
    self.assertEqual(np.bincount(labels, minlength=5).tolist(), [2, 0, 1, 0, 1])
    labels = [example["label"] for example in source["train"]]
    self.assertEqual(np.bincount(labels).tolist(), [3, 1, 2, 1, 1])

  def test_kaggles_other_file_name_and_folders_in_a_folder(self):
    root = pathlib.Path(self.create_tempdir())
    sources.write("diabetic_retinopathy", root)
    first = sources.load("diabetic_retinopathy", root)
    other = pathlib.Path(self.create_tempdir("other"))
    (other / "archives").mkdir()
    path = root / "archives" / "diabetic-retinopathy-dataset.zip"
    with (
      zipfile.ZipFile(path) as old,
      zipfile.ZipFile(other / "archives" / "archive.zip", "w") as new,
    ):
      for name in old.namelist():
        new.writestr(f"retina/{name}", old.read(name))
    again = sources.load("diabetic_retinopathy", other)
    for split in first:
      np.testing.assert_array_equal(first[split].images, again[split].images)
