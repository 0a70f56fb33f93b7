import pathlib
import zipfile

from absl.testing import parameterized
import numpy as np
import tensorflow_datasets as tfds

from experiments.data import diabetic_retinopathy
from tests.support import builders
from tests.support import sources


class DiabeticRetinopathyBuilderTest(
  builders.ResizableTests, builders.BuilderTests, parameterized.TestCase
):
  name = "diabetic_retinopathy"
  refused_fields = (
    (
      {"resize_to": 64},
      "image_size is 256; config.data.resize_to is 64, .* at most 64",
    ),
  )


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


class BadClassesTest(sources.TestCase):
  def test_a_wrong_number_of_a_class(self):
    sources.write("diabetic_retinopathy", self.root)
    path = self.archives / "diabetic-retinopathy-dataset.zip"
    self.rewrite(path, {"Mild DR/Mild DR_0.png": None})
    self.refused("0 images in the folder 'Mild DR'", "diabetic_retinopathy")
