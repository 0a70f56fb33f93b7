import os
import pathlib
import shutil
from unittest import mock

from absl.testing import parameterized
import numpy as np
import tensorflow_datasets as tfds

from experiments.data import decoded_file
from experiments.data import prepared
from tests.support import sources

_RAW_BYTES = tfds.decode.DeserializeMethod.RAW_BYTES
_DEBIAN = pathlib.Path("/usr/share/datasets/fashion-mnist")


class DecodedTest(sources.TestCase):
  def setUp(self):
    super().setUp()
    sources.write("mnist", self.root)
    self.images = sources.load("mnist", self.root)["train"].images

  def decoded(self):
    return sorted(self.mnist.glob("*.npy"))

  def load_without_decoding(self):
    with mock.patch.object(
      prepared.Records, "__getitem__", side_effect=AssertionError
    ):
      return sources.load("mnist", self.root)["train"].images

  def test_archives_and_records_are_not_needed_again(self):
    shutil.rmtree(self.archives)
    self.assertLen(self.decoded(), 2)
    np.testing.assert_array_equal(self.load_without_decoding(), self.images)

  def test_made_again_when_the_records_change(self):
    before = self.decoded()
    for path in self.mnist.glob("*array_record*"):
      os.utime(path, ns=(1, 1))
    np.testing.assert_array_equal(
      sources.load("mnist", self.root)["train"].images, self.images
    )
    after = self.decoded()
    self.assertLen(after, 2)
    self.assertEmpty(set(before) & set(after))

  @parameterized.parameters(0, 20, 300)
  def test_made_again_when_it_is_cut_short(self, length):
    self.made_again(lambda content: content[:length], "bytes, and must have")

  @parameterized.parameters(
    (9, "its header is another"),  # the header's size
    (40, "its header is another"),
    (128, "its SHA-256 is another"),  # a pixel
    (-33, "its SHA-256 is another"),
    (-1, "its SHA-256 is another"),
  )
  def test_made_again_when_a_bit_has_flipped(self, place, reason):
    def flip(content):
      content = bytearray(content)
      content[place] ^= 1
      return content

    self.made_again(flip, reason)

  def test_made_again_when_it_claims_a_huge_shape_or_objects(self):
    for old, new in (
      (b"(6, 28, 28, 1), }", b"(6, 28, 28, 1e9)}"),
      (b"(6, 28, 28, 1), }", b"(999999999999,),}"),
      (b"'|u1'", b"'|O' "),
    ):
      with self.subTest(new):
        self.made_again(
          lambda content, pair=(old, new): content.replace(*pair),
          "its header is another",
          splits=("train",),
        )

  def test_made_again_when_it_has_no_hash(self):
    self.made_again(lambda content: content[:-32], "it has no hash")

  def test_made_again_when_it_is_of_another_state_of_the_records(self):
    (path,) = self.mnist.glob("train*.npy")
    content = path.read_bytes()
    for records in self.mnist.glob("*array_record*"):
      os.utime(records, ns=(1, 1))
    sources.load("mnist", self.root)
    (path,) = self.mnist.glob("train*.npy")
    self.made_again(
      lambda _: content, "its SHA-256 is another", splits=("train",)
    )

  def test_made_again_when_it_cannot_be_read(self):
    (path,) = self.mnist.glob("train*.npy")
    self.enter_context(
      mock.patch.object(
        decoded_file.os, "stat", side_effect=PermissionError(13, "No entry")
      )
    )
    with self.assertLogs("absl", "WARNING") as logs:
      self.assertIsNone(decoded_file.read(path, self.images.shape))
    self.assertIn("cannot be used (No entry); decoding them anew", *logs.output)

  @parameterized.parameters(pathlib.Path.mkdir, os.mkfifo)
  def test_done_without_where_something_else_is_in_its_place(self, make):
    for path in self.decoded():
      path.unlink()
      make(path)
    with self.assertLogs("absl", "WARNING") as logs:
      images = sources.load("mnist", self.root)["train"].images
    self.assertIn("it is no file", logs.output[0])
    np.testing.assert_array_equal(images, self.images)
    self.assertEmpty(list(self.mnist.glob("*.tmp")))

  def test_numpy_reads_it(self):
    (path,) = self.mnist.glob("train*.npy")
    np.testing.assert_array_equal(np.load(path), self.images)

  def made_again(self, damage, reason, splits=("train", "test")):
    intact = {path: path.read_bytes() for path in self.decoded()}
    for path, content in intact.items():
      if path.name.split("_")[0] in splits:
        damaged = damage(content)
        self.assertNotEqual(damaged, content)
        path.write_bytes(damaged)
    with self.assertLogs("absl", "WARNING") as logs:
      images = sources.load("mnist", self.root)["train"].images
    self.assertLen(logs.output, len(splits))
    for line in logs.output:
      self.assertRegex(line, rf"npy cannot be used \(.*{reason}.*\); decoding")
    np.testing.assert_array_equal(images, self.images)
    self.assertEqual({p: p.read_bytes() for p in self.decoded()}, intact)
    self.load_without_decoding()

  def test_done_without_where_it_cannot_be_written(self):
    for path in self.decoded():
      path.unlink()
    error = OSError(30, "Read-only file system")
    with (
      mock.patch.object(decoded_file, "open", side_effect=error, create=True),
      mock.patch.object(pathlib.Path, "unlink", side_effect=error),
      self.assertLogs("absl", "WARNING") as logs,
    ):
      images = sources.load("mnist", self.root)["train"].images
    self.assertIn("cannot be kept", logs.output[0])
    np.testing.assert_array_equal(images, self.images)
    self.assertEmpty(list(self.mnist.glob("*.tmp")))
    self.assertEmpty(self.decoded())
