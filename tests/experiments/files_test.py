import os
import pathlib
from unittest import mock

from absl.testing import parameterized

from experiments import files
from experiments.errors import UserError


class FilesTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.path = pathlib.Path(self.create_tempdir()) / "x.json"

  def test_json_comes_back(self):
    files.write_json(self.path, {"a": [1, None, "ä"]})
    self.assertEqual(files.read_json(self.path), {"a": [1, None, "ä"]})

  def test_a_write_that_fails_leaves_what_there_was(self):
    files.write_text(self.path, "before")
    with self.assertRaises(KeyboardInterrupt):
      with files.replacing(self.path) as temporary:
        temporary.write_text("aft")
        raise KeyboardInterrupt
    self.assertEqual(self.path.read_text(), "before")
    self.assertEqual(list(self.path.parent.iterdir()), [self.path])

  def test_a_directory_in_the_way_stays(self):
    self.path.mkdir()
    (self.path / "mine").touch()
    with self.assertRaisesRegex(UserError, "x.json cannot be written"):
      with files.writing(self.path):
        files.write_json(self.path, {})
    self.assertEqual(
      list(self.path.parent.rglob("*")), [self.path, self.path / "mine"]
    )

  @parameterized.parameters(
    b"", b"{", b'{"a": 1', b"\xff\xfe", b"[" * 100_000, b"1" * 5000, b"\0\0"
  )
  def test_damage_is_named_in_a_line(self, content):
    self.path.write_bytes(content)
    with self.assertRaisesRegex(
      files.UnreadableError, f"^{self.path} is damaged \\(.*\\)$"
    ):
      files.read_json(self.path)

  def test_what_is_no_file(self):
    with self.assertRaises(FileNotFoundError):
      files.read_json(self.path)
    for make in (os.mkdir, os.mkfifo):
      make(self.path)
      with self.assertRaisesRegex(files.UnreadableError, "is no file"):
        files.read_json(self.path)
      (os.rmdir if self.path.is_dir() else os.unlink)(self.path)
    with self.assertRaisesRegex(files.UnreadableError, "cannot be read"):
      self.path.parent.joinpath("file").touch()
      files.read_json(self.path.parent / "file" / "x.json")

  def test_what_may_not_be_read(self):
    self.path.write_text("{}")
    with mock.patch.object(
      pathlib.Path, "read_bytes", side_effect=PermissionError(13, "Denied")
    ):
      with self.assertRaisesRegex(
        files.UnreadableError, "x.json cannot be read .*Denied"
      ):
        files.read_json(self.path)
