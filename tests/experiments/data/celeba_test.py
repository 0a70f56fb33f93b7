import pathlib
from unittest import mock

from absl.testing import parameterized
import numpy as np

from experiments.data import celeba
from experiments.errors import UserError
from tests.support import builders
from tests.support import sources


class CelebaBuilderTest(
  builders.ResizableTests, builders.BuilderTests, parameterized.TestCase
):
  name = "celeba"
  refused_fields = (
    ({"image_size": 180}, "image_size is 180; .*218 x 178.*most 178"),
    ({"resize_to": 512}, "resize_to is 512; .*218 x 178.*most 178"),
  )


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
