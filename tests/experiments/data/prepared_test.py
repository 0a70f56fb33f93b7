"""Preparing and reading data sets, and what can go wrong."""

import dataclasses
import fcntl
import gzip
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import textwrap
import time
from unittest import mock
import zipfile

from absl.testing import parameterized
import numpy as np
from PIL import Image
import pytest
import requests
import tensorboardX
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download import download_manager
from tensorflow_datasets.core.download import resource
from tensorflow_datasets.testing import mocking

from experiments import data
from experiments.data import images
from experiments.data import prepared
from experiments.errors import UserError
from tests.experiments.data import sources

_REPOSITORY = pathlib.Path(__file__).parents[3]
_RAW_BYTES = tfds.decode.DeserializeMethod.RAW_BYTES
_DEBIAN = pathlib.Path("/usr/share/datasets/fashion-mnist")


def in_process(root, *before, name="mnist"):
  """Starts a process that loads a tiny data set from under `root`."""
  program = textwrap.dedent(
    """
    import pathlib
    from experiments.errors import UserError
    from tests.experiments.data import sources
    {before}
    try:
      splits = sources.load({name!r}, pathlib.Path({root!r}))
      print("images:", len(splits["train"]))
    except UserError as error:
      print("error:", error)
    """
  ).format(before="\n".join(before), name=name, root=str(root))
  return subprocess.Popen(
    [sys.executable, "-c", program],
    cwd=_REPOSITORY,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


class _TestCase(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.create_tempdir())
    self.archives = self.root / "archives"
    self.mnist = self.root / "tfds" / "mnist" / "3.0.1"

  def refused(self, message, name="mnist", **fields):
    """Loading must say so, in one line, at once, and leave nothing behind."""
    started = time.monotonic()
    with self.assertRaisesRegex(UserError, message) as caught:
      sources.load(name, self.root, **fields)
    self.assertLess(time.monotonic() - started, 20)
    self.assertNotIn("\n", str(caught.exception))
    prepared_sets = list((self.root / "tfds").rglob("dataset_info.json"))
    self.assertEmpty(prepared_sets)
    return str(caught.exception)


class BadArchivesTest(_TestCase):
  @parameterized.parameters(*sources.BUILDERS)
  def test_missing(self, name):
    sources.write(name, self.root)
    for archive in sources.BUILDERS[name].ARCHIVES:
      path = self.archives / archive.name
      content = path.read_bytes()
      path.unlink()
      message = self.refused(f"archive {path} is missing; fetch it from", name)
      self.assertIn("http", message)
      self.assertIn("--config.data.manual_dir=DIR", message)
      path.write_bytes(content)
    sources.load(name, self.root)

  @parameterized.parameters(*sources.BUILDERS)
  def test_cut_short(self, name):
    sources.write(name, self.root)
    archive = sources.BUILDERS[name].ARCHIVES[0].name
    path = self.archives / archive
    content = path.read_bytes()
    for length in (0, 100, len(content) // 2):
      path.write_bytes(content[:length])
      self.refused(f"archive {path}.*fetch it", name)
    path.write_bytes(content)
    sources.load(name, self.root)

  @parameterized.parameters(
    "fashion_mnist", "mnist", "cifar10", "tiny_imagenet"
  )
  def test_another_content(self, name):
    sources.write(name, self.root)
    with self.assertRaisesRegex(
      UserError, r"archive .*(another content.*SHA-256|cut short, \d+ of \d+)"
    ):
      data.load(sources.config(name, self.root))
    # Another gzip of the same file would do, another file of the same size not.
    builder = sources.BUILDERS["mnist"]
    archive = dataclasses.replace(
      builder.ARCHIVES[0], name="x.zip", sha256="0" * 64, size=3
    )
    (self.archives / "x.zip").write_bytes(b"abc")
    with self.assertRaisesRegex(UserError, "another content than the publ"):
      prepared.archives.find([archive], str(self.archives), self.root)

  def test_labels_that_do_not_go_with_the_images(self):
    sources.write("mnist", self.root)
    path = self.archives / "t10k-labels-idx1-ubyte.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-1]))
    self.refused("t10k-images-idx3-ubyte.gz holds 4 images for 3 labels")

  @parameterized.parameters(*sources.BUILDERS)
  def test_a_wrong_number_of_images(self, name):
    sources.write(name, self.root)
    counts = {k: v + 1 for k, v in sources.SPLITS[name].items()}
    with mock.patch.dict(sources.SPLITS, {name: counts}):
      self.refused("archive .* has .* images for the split .* must have", name)

  def _rewrite(self, path, change):
    """Changes files of a zip; None leaves one out."""
    with zipfile.ZipFile(path) as old:
      files = {name: old.read(name) for name in old.namelist()}
    files.update(change)
    with zipfile.ZipFile(path, "w") as new:
      for name, content in files.items():
        if content is not None:
          new.writestr(name, content)

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
    self._rewrite(path, {member: b"no image"})
    self.refused(f"{path} .*image {member} does not decode.*fetch it", name)
    self._rewrite(path, {member: sources.encode(np.zeros((9, 8, 3), np.uint8))})
    self.refused(f"{path} .*image {member} is 8 x 9 pixels.*fetch it", name)
    self._rewrite(path, {member: None})
    self.refused(f"archive .*{path.name} (is damaged|has .* images)", name)

  def test_wrong_classes(self):
    sources.write("tiny_imagenet", self.root)
    path = self.archives / "tiny-imagenet-200.zip"
    wnids = "tiny-imagenet-200/wnids.txt"
    self._rewrite(path, {wnids: "n01443537\nn01629819\n"})
    self.refused("names 2 classes in wnids.txt; it must", "tiny_imagenet")
    self._rewrite(path, {wnids: "n01443537\nn01629819\nn99\n"})
    self.refused("a class 'n01641577' that is not", "tiny_imagenet")

  def test_a_wrong_number_of_a_class(self):
    sources.write("diabetic_retinopathy", self.root)
    path = self.archives / "diabetic-retinopathy-dataset.zip"
    self._rewrite(path, {"Mild DR/Mild DR_0.png": None})
    self.refused("0 images in the folder 'Mild DR'", "diabetic_retinopathy")


class NoNetworkTest(_TestCase):
  @parameterized.parameters(
    "mnist", "fashion_mnist", "cifar10", "tiny_imagenet", "celeba"
  )
  def test_told_at_once_what_to_fetch(self, name):
    error = requests.ConnectionError("no route to host")
    with mock.patch.object(requests, "head", side_effect=error):
      message = self.refused("cannot reach http.*fetch", name, manual_dir="")
    for archive in sources.BUILDERS[name].ARCHIVES:
      self.assertIn(archive.name, message)
    self.assertIn(str(self.root / "tfds" / "downloads" / "manual"), message)

  def test_without_a_manual_dir_tfdss_own_is_looked_into(self):
    sources.write("cifar10", self.root)
    place = self.root / "tfds" / "downloads" / "manual"
    place.parent.mkdir(parents=True)
    self.archives.rename(place)
    splits = sources.load("cifar10", self.root, manual_dir="")
    self.assertLen(splits["train"], 10)

  def test_what_tfds_has_downloaded_needs_no_network(self):
    sources.write("tiny_imagenet", self.root)
    (archive,) = sources.BUILDERS["tiny_imagenet"].ARCHIVES
    downloads = self.root / "tfds" / "downloads"
    downloads.mkdir(parents=True)
    name = resource.get_dl_fname(archive.url, archive.sha256)
    (self.archives / archive.name).rename(downloads / name)
    (downloads / f"{name}.INFO").write_text("{}")
    with mock.patch.object(requests, "head", side_effect=AssertionError):
      splits = sources.load("tiny_imagenet", self.root, manual_dir="")
    self.assertLen(splits["train"], 6)

  @parameterized.parameters(
    download_manager.NonMatchingChecksumError, requests.ConnectionError
  )
  def test_a_download_that_fails(self, kind):
    def fail(*_, **__):
      raise kind("checksum of\n the download is wrong")

    with (
      mock.patch.object(requests, "head"),
      mock.patch.object(tfds.core.DatasetBuilder, "download_and_prepare", fail),
    ):
      self.refused(
        "downloading fashion_mnist failed .checksum of the.*fetch http",
        "fashion_mnist",
        manual_dir="",
      )


class DataDirTest(_TestCase):
  def setUp(self):
    super().setUp()
    sources.write("mnist", self.root)

  def test_not_a_directory(self):
    (self.root / "tfds").write_text("a file")
    self.refused("data directory .*tfds cannot be written .*data_dir=DIR")

  def test_read_only(self):
    error = PermissionError(13, "Permission denied")
    with mock.patch.object(pathlib.Path, "mkdir", side_effect=error):
      self.refused("cannot be written .*Permission denied.*data_dir=DIR")

  def test_the_lock_cannot_be_written(self):
    (self.root / "tfds").mkdir()
    error = PermissionError(13, "Permission denied")
    with mock.patch.object(prepared, "open", side_effect=error, create=True):
      self.refused("cannot be written .*Permission denied.*data_dir=DIR")

  def test_in_the_home_directory(self):
    with mock.patch.dict(os.environ, {"HOME": str(self.root)}):
      sources.load("mnist", self.root, data_dir="~/tfds")
    self.assertTrue(self.mnist.exists())

  def test_of_another_machine(self):
    self.refused("data_dir is 'gs://bucket'", data_dir="gs://bucket")

  def test_too_little_room(self):
    usage = shutil.disk_usage(self.root)._replace(free=1000)
    with mock.patch.object(shutil, "disk_usage", lambda path: usage):
      self.refused("cannot be written .*GiB are needed.*make room")

  def test_a_disk_that_gets_full(self):
    process = in_process(
      self.root,
      "import resource, signal",
      "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)",
      "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))",
    )
    output, _ = process.communicate(timeout=60)
    self.assertRegex(output, "error: data directory .* cannot be written")
    self.assertEmpty(list((self.root / "tfds").rglob("dataset_info.json")))
    self.assertLen(sources.load("mnist", self.root)["train"], 6)

  def test_killed_while_preparing(self):
    process = in_process(
      self.root,
      "import os",
      "from experiments.data import mnist",
      "def killed(pixels, labels):",
      "  yield from (x for x, _ in zip(real(pixels, labels), range(3)))",
      "  os._exit(9)",
      "real, mnist._examples = mnist._examples, killed",
    )
    process.communicate(timeout=60)
    self.assertEqual(process.returncode, 9)
    self.assertNotEmpty(list((self.root / "tfds" / "mnist").iterdir()))
    self.assertFalse(self.mnist.exists())
    self.assertLen(sources.load("mnist", self.root)["train"], 6)

  def test_two_at_once(self):
    waiting = [in_process(self.root) for _ in range(2)]
    outputs = [process.communicate(timeout=120) for process in waiting]
    for output, errors in outputs:
      self.assertIn("images: 6", output, errors)

  def test_waiting_for_another(self):
    lock = self.root / "tfds" / ".mnist.lock"
    lock.parent.mkdir()
    with open(lock, "w") as held:
      fcntl.flock(held, fcntl.LOCK_EX)
      process = in_process(self.root)
      while True:
        line = process.stdout.readline()
        if "Waiting for another process that prepares mnist" in line:
          break
        self.assertNotEqual(line, "")
      self.assertIsNone(process.poll())
      self.assertFalse(self.mnist.exists())
      # The other finishes meanwhile.
      with mock.patch.object(fcntl, "flock"):
        expected = sources.load("mnist", self.root)
    output, errors = process.communicate(timeout=60)
    self.assertIn(f"images: {len(expected['train'])}", output, errors)


class DecodedTest(_TestCase):
  def setUp(self):
    super().setUp()
    sources.write("mnist", self.root)
    self.images = sources.load("mnist", self.root)["train"].images

  def decoded(self):
    return sorted(self.mnist.glob("*.npy"))

  def load_without_decoding(self):
    with mock.patch.object(
      prepared._Records, "__getitem__", side_effect=AssertionError
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
  def test_made_again_when_it_is_damaged(self, length):
    for path in self.decoded():
      path.write_bytes(path.read_bytes()[:length])
    np.testing.assert_array_equal(
      sources.load("mnist", self.root)["train"].images, self.images
    )
    self.load_without_decoding()

  def test_done_without_where_it_cannot_be_written(self):
    for path in self.decoded():
      path.unlink()
    error = OSError(30, "Read-only file system")
    with (
      mock.patch.object(prepared, "open", side_effect=error, create=True),
      mock.patch.object(pathlib.Path, "unlink", side_effect=error),
      self.assertLogs("absl", "WARNING") as logs,
    ):
      images = sources.load("mnist", self.root)["train"].images
    self.assertIn("cannot be kept", logs.output[0])
    np.testing.assert_array_equal(images, self.images)
    self.assertEmpty(list(self.mnist.glob("*.tmp")))
    self.assertEmpty(self.decoded())


class DamagedRecordsTest(_TestCase):
  def setUp(self):
    super().setUp()
    sources.write("mnist", self.root)
    self.images = sources.load("mnist", self.root)["train"].images
    (self.records,) = self.mnist.glob("mnist-train.array_record*")

  def damaged(self, message):
    with self.assertRaisesRegex(UserError, message) as caught:
      sources.load("mnist", self.root)
    self.assertNotIn("\n", str(caught.exception))
    self.assertIn("move the directory away", str(caught.exception))

  def test_missing(self):
    self.records.unlink()
    self.damaged("3.0.1 is damaged, split train")

  def test_cut_short(self):
    content = self.records.read_bytes()
    for length in (0, 70, len(content) // 2):
      self.records.write_bytes(content[:length])
      self.damaged("3.0.1 is damaged, split train")

  def test_a_flipped_byte_is_found_or_harmless(self):
    content = self.records.read_bytes()
    rng = np.random.default_rng(0)
    for place in rng.integers(0, len(content), 40):
      bad = bytearray(content)
      bad[place] ^= 1 << rng.integers(8)
      self.records.write_bytes(bad)
      try:
        images = sources.load("mnist", self.root)["train"].images
      except UserError:
        continue
      np.testing.assert_array_equal(images, self.images)

  def test_another_number_of_images(self):
    with mock.patch.dict(sources.SPLITS, {"mnist": {"train": 7, "test": 4}}):
      self.damaged("has 6 images in the split train; it must have 7")

  def test_no_description(self):
    (self.mnist / "dataset_info.json").unlink()
    self.damaged("3.0.1 is damaged")

  @parameterized.parameters("", "{", '{"version": "9.9.9"}')
  def test_a_damaged_description(self, content):
    (self.mnist / "dataset_info.json").write_text(content)
    self.damaged("mnist.* is damaged")


class PreparedWithTensorFlowTest(_TestCase):
  """A user's own ~/tensorflow_datasets holds TFRecords, most often."""

  def test_tfrecords_are_read(self):
    sources.write("mnist", self.root)
    expected = sources.load("mnist", self.root)
    raw = tfds.decode.SkipDecoding()
    del raw
    builder = tfds.builder_from_directory(self.mnist)
    for split in ("train", "test"):
      source = builder.as_data_source(
        split=split, deserialize_method=_RAW_BYTES
      )
      writer = tensorboardX.record_writer.RecordWriter(
        str(self.mnist / f"mnist-{split}.tfrecord-00000-of-00001")
      )
      for i in range(len(source)):
        writer.write(source[i])
      writer.close()
    info = self.mnist / "dataset_info.json"
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    for path in (*self.mnist.glob("*array_record*"), *self.mnist.glob("*.npy")):
      path.unlink()
    for budget in (4.0, 0.0):
      splits = sources.load("mnist", self.root, memory_budget_gib=budget)
      for split in splits:
        np.testing.assert_array_equal(
          splits[split].images[np.arange(4)],
          expected[split].images[np.arange(4)],
        )


class MockedTest(_TestCase):
  """With TFDS's own stand-ins for data that are not here."""

  @parameterized.parameters(*sources.BUILDERS)
  def test_every_config(self, name):
    builder = sources.BUILDERS[name]
    counts = dict.fromkeys(builder.SPLITS, 5)

    class Examples(list):
      def __getitems__(self, keys):
        return [self[key] for key in keys]

    def as_data_source(builder, **_):
      made = mocking.RandomFakeGenerator(builder.info.features, 5)
      return Examples(
        {"image": images.to_png(Image.fromarray(example["image"].squeeze()))}
        for example in (made[i] for i in range(5))
      )

    with (
      tfds.testing.mock_data(as_data_source_fn=as_data_source),
      mock.patch.object(prepared.archives, "find", lambda *_: {"any": "/"}),
      mock.patch.object(builder, "SPLITS", counts),
    ):
      config = sources.config(name, self.root)
      splits = data.load(config)
    size = config.data.image_size
    for split in splits.values():
      self.assertEqual(
        split.images.shape, (5, size, size, config.data.channels)
      )


@pytest.mark.slow
class DebianTest(_TestCase):
  """Needs Debian's package dataset-fashion-mnist."""

  def load(self, manual_dir):
    config = sources.config("fashion_mnist", self.root)
    config.data.manual_dir = str(manual_dir)
    return data.load(config)

  def test_the_real_fashion_mnist(self):
    splits = self.load(_DEBIAN)
    self.assertEqual(splits["train"].images.shape, (60_000, 28, 28, 1))
    self.assertEqual(splits["validation"].images.shape, (10_000, 28, 28, 1))
    for ours, theirs, prefix, first, last in (
      ("train", "train", "train", "94389a5b82ced929", "bf157398137a1e89"),
      ("validation", "test", "t10k", "82fa99c8cd9066fb", "fcd1d9fabc8e4a4a"),
    ):
      # Stock TFDS reads it.
      source = tfds.data_source(
        "fashion_mnist", data_dir=self.root / "tfds", split=theirs
      )
      images = splits[ours].images
      for i, digest in ((0, first), (-1, last)):
        self.assertStartsWith(
          hashlib.sha256(images[i].tobytes()).hexdigest(), digest
        )
      pairs = [(e["image"].tobytes(), int(e["label"])) for e in source]
      np.testing.assert_array_equal(
        np.bincount([label for _, label in pairs]),
        np.full(10, len(images) // 10),
      )
      self.assertEqual([key for key, _ in pairs], [i.tobytes() for i in images])
      arrays = []
      for kind, header in (("images-idx3", 16), ("labels-idx1", 8)):
        with gzip.open(_DEBIAN / f"{prefix}-{kind}-ubyte.gz") as archive:
          arrays.append(np.frombuffer(archive.read(), np.uint8, offset=header))
      pixels, labels = arrays
      expected = zip(pixels.reshape(-1, 784), labels.tolist(), strict=True)
      self.assertEqual(
        sorted(pairs), sorted((image.tobytes(), n) for image, n in expected)
      )
    again = self.load("/nowhere")
    np.testing.assert_array_equal(again["train"].images, splits["train"].images)

  def test_a_truncated_archive(self):
    shutil.copytree(_DEBIAN, self.archives)
    path = self.archives / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-1000])
    with self.assertRaisesRegex(UserError, "t10k-images.*is damaged"):
      self.load(self.archives)
