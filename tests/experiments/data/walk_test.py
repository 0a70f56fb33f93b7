"""What is found in a folder of images, by links too, and what is bad."""

import os
import pathlib
from unittest import mock

from absl.testing import parameterized

from experiments.data import walk
from experiments.errors import UserError


class WalkTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.create_tempdir())
    self.folder = self.root / "images"
    self.folder.mkdir()

  def put(self, *names):
    for name in names:
      path = self.folder / name
      path.parent.mkdir(parents=True, exist_ok=True)
      path.touch()

  def link(self, name, target):
    (self.folder / name).symlink_to(target)

  def bad(self):
    return {bad.name: bad.reason for bad in walk.find(self.folder).bad}

  def denied(self, function, name):
    """Lets a function of `os` fail for one path, which root may read."""
    real = getattr(os, function)

    def deny(path, *arguments, **options):
      if pathlib.Path(path) == self.folder / name:
        raise PermissionError(13, "Permission denied")
      return real(path, *arguments, **options)

    self.enter_context(mock.patch.object(walk.os, function, deny))


class FoundTest(WalkTest):
  def test_images_below_but_neither_hidden_nor_other_files(self):
    self.put("b.PNG", "a/x.jpeg", "a/b/c.tif", "notes.txt", "a/.png")
    self.put(".h/x.png", ".x.png", "photo.jfif", "photo.jpe", "README")
    found = walk.find(self.folder)
    self.assertEqual(
      found.images,
      ["a/b/c.tif", "a/x.jpeg", "b.PNG", "photo.jfif", "photo.jpe"],
    )
    self.assertEqual(found.others, 2)
    self.assertEmpty(found.bad + found.repeated)

  def test_a_folder_named_like_an_image(self):
    self.put("a.png/x.png")
    self.assertEqual(walk.find(self.folder).images, ["a.png/x.png"])

  @parameterized.parameters("", "images/x.png", "nothing")
  def test_no_folder(self, name):
    self.put("x.png")
    path = self.root / name if name else pathlib.Path("\0" * 3)
    with self.assertRaisesRegex(UserError, "must be a folder of images"):
      walk.find(path)

  def test_a_folder_that_cannot_be_read(self):
    self.denied("scandir", "")
    with self.assertRaisesRegex(UserError, r"cannot be read \(Permission den"):
      walk.find(self.folder)


class LinksTest(WalkTest):
  def test_a_linked_folder_and_a_linked_image(self):
    outside = self.root / "outside" / "deep"
    outside.mkdir(parents=True)
    (outside / "x.png").touch()
    self.put("y.png")
    self.link("linked", self.root / "outside")
    self.link("z.png", outside / "x.png")
    found = walk.find(self.folder)
    self.assertEqual(found.images, ["linked/deep/x.png", "y.png", "z.png"])
    self.assertEmpty(found.repeated)

  def test_in_circles(self):
    self.put("a/x.png", "b/y.png")
    self.link("a/b", self.folder / "b")
    self.link("b/a", self.folder / "a")
    self.link("a/self", self.folder / "a")
    self.link("0", self.folder)
    found = walk.find(self.folder)
    self.assertEqual(found.images, ["a/x.png", "b/y.png"])
    self.assertCountEqual(found.repeated, ["a/b", "b/a", "a/self", "0"])

  def test_a_link_to_what_contains_the_folder(self):
    self.put("x.png")
    (self.root / "private.png").touch()
    self.link("up", "..")
    self.link("top", "/")
    found = walk.find(self.folder)
    self.assertEqual(found.images, ["x.png"])
    self.assertEqual(found.repeated, ["top", "up"])

  def test_two_links_to_one_folder_and_a_link_behind_a_link(self):
    outside = self.root / "outside"
    (outside / "below").mkdir(parents=True)
    (outside / "below" / "x.png").touch()
    (outside / "circle").symlink_to(outside)
    self.link("l", outside)
    self.link("m", outside / "below")
    found = walk.find(self.folder)
    self.assertEqual(found.images, ["l/below/x.png"])
    self.assertEqual(found.repeated, ["m", "l/circle"])

  def test_links_that_lead_nowhere(self):
    self.link("photographs", "/nowhere")
    self.link("x.png", "gone.png")
    self.link("y.png", "y.png")
    self.assertEqual(
      self.bad(),
      {
        "photographs": "links to nothing",
        "x.png": "links to nothing",
        "y.png": "cannot be read, Too many levels of symbolic links",
      },
    )


class BadTest(WalkTest):
  def test_a_folder_below_that_cannot_be_read(self):
    self.put("x.png", "a/b/y.png", "a/z.png")
    self.denied("scandir", "a/b")
    self.assertEqual(self.bad(), {"a/b": "cannot be read, Permission denied"})
    self.assertEqual(walk.find(self.folder).images, ["a/z.png", "x.png"])

  def test_a_folder_whose_files_cannot_be_looked_at(self):
    self.put("a/y.png")
    self.denied("stat", "a")
    self.assertEqual(self.bad(), {"a": "cannot be read, Permission denied"})

  def test_what_is_no_file(self):
    os.mkfifo(self.folder / "x.png")
    os.mkfifo(self.folder / "y.txt")
    self.assertEqual(self.bad(), {"x.png": "is no file"})

  def test_names_that_cannot_be_kept(self):
    names = ("caf\udce9.png", "a\nb.png", "a\\b.png", "a\x7f.png")
    self.put(*names, "café.png")
    found = walk.find(self.folder)
    self.assertEqual(found.images, ["café.png"])
    self.assertEqual(
      self.bad(),
      {
        names[0]: "has a name that is no UTF-8; rename it",
        names[1]: "has a name that is no name of a file; rename it",
        names[2]: "has a name that is no path inside a folder; rename it",
        names[3]: "has a name that is no name of a file; rename it",
      },
    )
    for bad in found.bad:
      self.assertTrue(str(bad).isprintable())
      str(bad).encode()

  def test_a_folder_of_such_a_name(self):
    self.put("\udcff/x.png", "\udcff/y.txt")
    found = walk.find(self.folder)
    self.assertEqual([bad.name for bad in found.bad], ["\udcff/x.png"])
    self.assertEqual(found.others, 1)
