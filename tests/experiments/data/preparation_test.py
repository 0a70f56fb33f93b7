"""Preparing data sets, and what can go wrong."""

import fcntl
import os
import pathlib
import shutil
import subprocess
import sys
import textwrap
from unittest import mock

from absl.testing import parameterized
import requests
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download import download_manager
from tensorflow_datasets.core.download import resource

from experiments.data import preparation
from tests.support import sources

_REPOSITORY = pathlib.Path(__file__).parents[3]


def in_process(root, *before, name="mnist"):
  """Starts a process that loads a tiny data set from under `root`."""
  program = textwrap.dedent(
    """
    import pathlib
    from experiments.errors import UserError
    from tests.support import sources
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


class NoNetworkTest(sources.TestCase):
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


class DataDirTest(sources.TestCase):
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
    with mock.patch.object(preparation, "open", side_effect=error, create=True):
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
