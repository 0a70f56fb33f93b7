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
from tests.support import sources

NAMES = tuple(sources.BUILDERS)


class BuildersTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.create_tempdir())

  @parameterized.parameters(*NAMES)
  def test_every_image_arrives_with_its_label(self, name):
    expected = sources.write(name, self.root)
    splits = sources.load(name, self.root)
    counts = sources.SPLITS[name]
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
        if name == "celeba":
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

  @parameterized.parameters(*NAMES)
  def test_what_tfds_and_the_model_are_told(self, name):
    sources.write(name, self.root)
    splits = sources.load(name, self.root)
    directory = next((self.root / "tfds").rglob("dataset_info.json")).parent
    builder = tfds.builder_from_directory(directory)
    self.assertEqual(
      {split: info.num_examples for split, info in builder.info.splits.items()},
      sources.SPLITS[name],
    )
    self.assertIn("@", builder.info.citation)
    self.assertStartsWith(builder.info.homepage, "http")
    self.assertEqual(builder.info.file_format.value, "array_record")
    config = sources.CONFIGS[name].get_config().data
    for split, count in zip(
      splits.values(), sources.SPLITS[name].values(), strict=True
    ):
      size = config.image_size
      self.assertEqual(split.images.shape, (count, size, size, config.channels))
      self.assertEqual(split.images.dtype, np.uint8)

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
    ("mnist", {"image_size": 32}, "image_size is 32; images of mnist are 28"),
    ("cifar10", {"image_size": 36}, "image_size is 36; .* at most 32"),
    ("cifar10", {"channels": 1}, "channels is 1; images of cifar10 have 3"),
    ("celeba", {"image_size": 180}, "image_size is 180; .*218 x 178.*most 178"),
    ("celeba", {"resize_to": 512}, "resize_to is 512; .*218 x 178.*most 178"),
    (
      "diabetic_retinopathy",
      {"resize_to": 64},
      "image_size is 256; config.data.resize_to is 64, .* at most 64",
    ),
  )
  def test_what_the_images_cannot_be_is_told_first(self, name, fields, message):
    # There are no archives, but that is not what is told.
    with self.assertRaisesRegex(UserError, f"config.data.{message}"):
      sources.load(name, self.root, **fields)

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
    expected = [image for image, _ in sources.write("celeba", root)["all"]]
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
        folder, file = name.split("/")
        new.writestr(f"__MACOSX/{folder}/._{file}", b"a Mac's notes")
    again = sources.load("diabetic_retinopathy", other)
    for split in first:
      np.testing.assert_array_equal(first[split].images, again[split].images)
