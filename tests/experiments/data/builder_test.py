from unittest import mock

from absl.testing import parameterized
import numpy as np

from tests.support import sources


class BadContentTest(sources.TestCase):
  @parameterized.parameters(*sources.BUILDERS)
  def test_a_wrong_number_of_images(self, name):
    sources.write(name, self.root)
    counts = {k: v + 1 for k, v in sources.SPLITS[name].items()}
    with mock.patch.dict(sources.SPLITS, {name: counts}):
      self.refused("archive .* has .* images for the split .* must have", name)

  @parameterized.parameters(
    (
      "tiny_imagenet",
      "tiny-imagenet-200/train/n01443537/images/n01443537_0.JPEG",
    ),
    ("tiny_imagenet", "tiny-imagenet-200/val/images/val_1.JPEG"),
    ("diabetic_retinopathy", "Severe DR/Severe DR_0.png"),
  )
  def test_an_image_that_does_not_decode(self, name, member):
    sources.write(name, self.root)
    path = self.archives / sources.BUILDERS[name].ARCHIVES[0].name
    self.rewrite(path, {member: b"no image"})
    self.refused(f"{path} .*image {member} does not decode.*fetch it", name)
    self.rewrite(path, {member: sources.encode(np.zeros((9, 8, 3), np.uint8))})
    self.refused(f"{path} .*image {member} is 8 x 9 pixels.*fetch it", name)
    self.rewrite(path, {member: None})
    self.refused(f"archive .*{path.name} (is damaged|has .* images)", name)
