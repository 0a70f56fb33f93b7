"""Batches of a folder's images, and which files are none."""

import contextlib
import io
import os
import pathlib

from absl.testing import parameterized
import numpy as np
from PIL import Image

from experiments.errors import UserError
from experiments.tokens import image_folder as folders


def image(width=8, height=8):
  noise = np.random.default_rng(0).integers(0, 256, (height, width, 3))
  return Image.fromarray(noise.astype(np.uint8))


class FolderTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.create_tempdir())

  def put(self, name, width=8, height=8, form="PNG"):
    path = self.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    image(width, height).save(path, form)
    return path

  def cut(self, name, form="PNG"):
    path = self.put(name, form=form)
    path.write_bytes(path.read_bytes()[:-60])

  def batches(self, crop=False):
    with contextlib.redirect_stdout(io.StringIO()) as output:
      batches = folders.Batches(self.folder, 4, 3, crop)
    self.said = output.getvalue()
    return batches

  def refusal(self, **options):
    message = str(self.batches(**options).refusal([]))
    self.assertTrue(message.isprintable())
    return message

  def reasons(self, **options):
    return {bad.name: bad.reason for bad in self.batches(**options).bad}


class BadFilesTest(FolderTest):
  def test_all_are_named_at_once(self):
    self.put("good.png")
    self.put("sides.png", 10, 8)
    (self.folder / "text.png").write_text("no image")
    (self.folder / "empty.webp").touch()
    Image.new("1", (5000, 5000)).save(self.folder / "large.png")
    (self.folder / "link.png").symlink_to("nowhere")
    self.put("caf\udce9.png")
    self.put("good.jpg", form="JPEG")
    self.cut("cut.png")
    self.cut("torn.jfif", form="JPEG")
    levels = np.full((8, 8), 300, np.float32)
    Image.fromarray(levels).save(self.folder / "float.tif")
    message = self.refusal()
    self.assertStartsWith(message, f"10 files of {self.folder} cannot be enc")
    for part in (
      "sides.png (10 x 8 pixels, sides that are no multiples of 4)",
      "text.png (does not decode, of no known format)",
      "empty.webp (does not decode, of no known format)",
      "large.png (does not decode, 5000 x 5000 pixels are more than 16777216)",
      "link.png (links to nothing)",
      "'caf\\udce9.png' (has a name that is no UTF-8; rename it)",
      "good.png (cannot be decoded beside good.jpg; rename one of them)",
      "cut.png (does not decode, image file is truncated",
      "torn.jfif (does not decode, image file is truncated",
      "float.tif (does not decode, its samples are floating-point",
      "with --crop, or leave them out with --skip_bad",
    ):
      self.assertIn(part, message)

  def test_what_the_first_bytes_do_not_tell_comes_with_the_batch(self):
    self.put("a.png")
    self.cut("b.png")
    self.put("c.png")
    batches = self.batches()
    self.assertEmpty(batches.bad)
    self.assertEqual(batches.num_images, 3)
    ((names, pixels, bad),) = batches
    self.assertEqual(names, ("a.png", "c.png"))
    np.testing.assert_array_equal(pixels, np.stack([np.asarray(image())] * 2))
    self.assertEqual([one.name for one in bad], ["b.png"])

  def test_changed_or_taken_away_meanwhile(self):
    for name in ("a.png", "b.png", "c.png"):
      self.put(name)
    batches = self.batches(crop=True)
    self.put("a.png", 8, 16)
    (self.folder / "b.png").unlink()
    ((names, _, bad),) = batches
    self.assertEqual(names, ("c.png",))
    self.assertEqual(
      list(map(str, bad)),
      [
        "a.png (has changed meanwhile; encode again)",
        "b.png (does not decode, No such file or directory)",
      ],
    )

  def test_no_image_of_a_batch_is_good(self):
    self.cut("a.png")
    ((names, pixels, bad),) = self.batches()
    self.assertEqual((names, pixels), ((), None))
    self.assertLen(bad, 1)
    self.assertNotIn("--skip_bad", self.refusal())

  def test_reading_refuses_or_leaves_out(self):
    self.put("a.png")
    self.cut("b.png")
    with self.assertRaisesRegex(UserError, "1 file of .* b.png .*--skip_bad$"):
      list(self.batches().read("x", skip_bad=False))
    ((names, _, bad),) = self.batches().read("x", skip_bad=True)
    self.assertEqual((names, bad[0].name), (("a.png",), "b.png"))
    (self.folder / "a.png").unlink()
    with self.assertRaisesRegex(UserError, "1 file of .* take them away$"):
      list(self.batches().read("x", skip_bad=True))

  def test_very_many(self):
    for i in range(33):
      (self.folder / f"{i:02}.png").touch()
    self.assertRegex(
      self.refusal(), r"^33 files .* 19.png \([^)]*\) and 13 others; put"
    )

  def test_nothing_to_encode(self):
    (self.folder / "notes.txt").touch()
    with self.assertRaisesRegex(UserError, "has no image: .* .jfif, .jpe, "):
      self.batches()
    os.symlink("nowhere", self.folder / "photographs")
    self.assertIn("photographs (links to nothing); put", self.refusal())

  def test_what_is_left_out_without_being_bad_is_said(self):
    self.put("a/x.png")
    (self.folder / "notes.txt").touch()
    (self.folder / "a" / "up").symlink_to("..")
    self.assertEmpty(self.batches().bad)
    self.assertIn("Leaving out 1 files of", self.said)
    self.assertRegex(self.said, "read under another name, .*: a/up\n")


class SidesTest(FolderTest):
  @parameterized.parameters((2, 2), (3, 80), (80, 3))
  def test_nothing_is_left_to_encode(self, width, height):
    self.put("x.png", width, height)
    wanted = f"{width} x {height} pixels, where a side must have 4"
    for crop in (False, True):
      self.assertEqual(self.reasons(crop=crop), {"x.png": wanted})
      self.assertNotIn("--crop", self.refusal(crop=crop))

  def test_what_is_over_is_cut(self):
    self.put("x.png", 11, 9)
    self.assertEqual(
      self.reasons(),
      {"x.png": "11 x 9 pixels, sides that are no multiples of 4"},
    )
    ((_, pixels, _),) = self.batches(crop=True)
    np.testing.assert_array_equal(pixels[0], np.asarray(image(11, 9))[0:8, 1:9])


class ClashesTest(FolderTest):
  @parameterized.parameters(
    (["a.jpg", "a.png"], ["a.png"]),
    (["a.jpg", "a.png/x.png"], ["a.png/x.png"]),
    (["a.PNG/b/x.jpe", "a.PNG"], ["a.PNG/b/x.jpe"], False),
    (["0/a.bmp", "0/a.png/b/c/x.png", "0/a.webp"],
     ["0/a.png/b/c/x.png", "0/a.webp"]),
    (["a.jpg", "a.jpg/x.png"], [], False),
    (["b/a.jpg", "c/a.png", "a.png.d/x.png"], []),
  )  # fmt: skip
  def test_decoded_under_one_name(self, names, clashing, can_be=True):
    if not can_be:  # on any disk
      names = [name for name in names if "/" in name]
      clashing = []
    for name in names:
      self.put(name)
    self.assertEqual(list(self.reasons()), clashing)

  def test_a_folder_without_images_is_in_nobodys_way(self):
    self.put("a.jpg", form="JPEG")
    (self.folder / "a.png").mkdir()
    (self.folder / "a.png" / "notes.txt").touch()
    self.assertEmpty(self.batches().bad)

  def test_a_bad_image_takes_no_name(self):
    (self.folder / "a.jpg").touch()
    self.put("a.png")
    self.assertEqual(list(self.reasons()), ["a.jpg"])
