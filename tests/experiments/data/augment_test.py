from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np

from experiments.data import augment


class AugmentTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    rng = np.random.default_rng(0)
    self.images = rng.integers(0, 256, (64, 6, 6, 3), np.uint8)

  def run_augment(self, key=0, images=None, index=None, flip=True, size=4):
    images = self.images if images is None else images
    index = jnp.arange(len(images)) if index is None else index
    return augment.augment(
      jax.random.key(key), images, index, size=size, random_flip=flip
    )

  def test_crops_are_parts_of_the_image_and_reach_every_corner(self):
    crops = np.asarray(self.run_augment(flip=False))
    corners = set()
    for image, crop in zip(self.images, crops, strict=True):
      found = [
        (y, x)
        for y in range(3)
        for x in range(3)
        if (image[y : y + 4, x : x + 4] == crop).all()
      ]
      self.assertLen(found, 1)
      corners.add(found[0])
    self.assertLen(corners, 9)

  def test_half_are_mirrored(self):
    same = self.run_augment(size=6, flip=False)
    chex.assert_trees_all_equal(same, jnp.asarray(self.images))
    maybe = np.asarray(self.run_augment(size=6))
    mirrored = (maybe == self.images[:, :, ::-1]).all(axis=(1, 2, 3))
    kept = (maybe == self.images).all(axis=(1, 2, 3))
    self.assertTrue((mirrored ^ kept).all())
    self.assertBetween(mirrored.mean(), 0.25, 0.75)

  def test_depends_on_key_and_index_alone(self):
    whole = self.run_augment()
    order = jnp.array([40, 3, 17])
    part = self.run_augment(images=self.images[order], index=order)
    chex.assert_trees_all_equal(part, whole[order])
    self.assertTrue((self.run_augment(key=1) != whole).any())

  def test_the_centre_is_cut_out(self):
    rows = np.arange(7)[None, :, None, None]
    columns = np.arange(4)[None, None, :, None]
    centre = augment.crop_centre(10 * rows + columns, 2)
    np.testing.assert_array_equal(centre[0, ..., 0], [[21, 22], [31, 32]])

  def test_range(self):
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    floats = augment.to_float(levels)
    self.assertEqual((floats.min(), floats.max()), (-0.5, 0.5))
    chex.assert_trees_all_equal(augment.to_uint8(floats), jnp.asarray(levels))
    chex.assert_trees_all_equal(
      augment.to_uint8(jnp.array([-9.0, 9.0])), jnp.array([0, 255], jnp.uint8)
    )
