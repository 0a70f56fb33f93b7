from unittest import mock

from absl.testing import parameterized
import ml_collections
import numpy as np
from PIL import Image

from experiments.data import photo_patches
from experiments.errors import UserError


def load(size=32):
  config = ml_collections.ConfigDict({"image_size": size, "channels": 3})
  return photo_patches.load(config)


class PhotoPatchesTest(parameterized.TestCase):
  def test_sources_are_balanced(self):
    splits = load()
    self.assertEqual(splits["train"].images.shape, (3840, 48, 48, 3))
    self.assertEqual(splits["validation"].images.shape, (240, 32, 32, 3))
    for split, count in (("train", 384), ("validation", 24)):
      np.testing.assert_array_equal(
        np.bincount(splits[split].source), np.full(10, count)
      )
      self.assertLen(splits[split].source_names, 10)

  def test_no_pixel_is_in_both_splits(self):
    # A picture whose pixels say where they are.
    height, width = 420, 500
    rows, columns = np.mgrid[:height, :width]
    photograph = np.stack(
      [rows % 256, columns % 256, rows // 256 * 2 + columns // 256], axis=-1
    ).astype(np.uint8)
    with mock.patch.object(photo_patches, "_read", lambda name: photograph):
      splits = load()

    def places(images):
      pixels = images.reshape(-1, 3).astype(int)
      return set((pixels @ (1, 256, 65536)).tolist())

    train = places(splits["train"].images)
    validation = splits["validation"].images[:24]
    self.assertEmpty(train & places(validation))
    # Validation patches do not overlap each other either.
    self.assertLen(places(validation), 24 * 32 * 32)

  def test_a_missing_photograph(self):
    with mock.patch.object(
      Image, "open", side_effect=FileNotFoundError("gone")
    ):
      with self.assertRaisesRegex(UserError, "astronaut.png .*force-reinstall"):
        load()

  def test_grey_ones(self):
    config = ml_collections.ConfigDict({"image_size": 32, "channels": 1})
    with self.assertRaisesRegex(UserError, "channels is 1; photographs have 3"):
      photo_patches.load(config)

  def test_patches_too_large(self):
    with self.assertRaisesRegex(
      UserError, "image_size is too large.*astronaut"
    ):
      load(64)
