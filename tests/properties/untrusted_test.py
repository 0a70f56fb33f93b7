"""Files that come from strangers, made to do harm."""

import ast
import gzip
import io
import json
import os
import pathlib
import pickle
import sys
import tarfile
import time
import tracemalloc
from unittest import mock
import zipfile
import zlib

from absl.testing import parameterized
import numpy as np
from PIL import Image

from experiments.data import images
from experiments.errors import UserError
from experiments.model import build
from experiments.processes import limits
from experiments.runs import checkpoint_file
from experiments.runs import checkpoints
from experiments.runs import workdir as workdirs
from tests.support import sources
from tests.support import untrained

_ROOT = pathlib.Path(__file__).parents[2]
_UNPICKLERS = {
  "_pickle", "cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve",
}  # fmt: skip
_events = []


def _listen(event, arguments):
  if event == "pickle.find_class":
    _events.append(arguments)


def _harm_done():
  _harm.append(True)


_harm = []


class Harmful:
  def __reduce__(self):
    return _harm_done, ()


class NoCodeTest(parameterized.TestCase):
  def test_no_module_unpickles(self):
    modules = [*_ROOT.glob("experiments/**/*.py"), *_ROOT.glob("adq_jax/**/*")]
    modules = [path for path in modules if path.suffix == ".py"]
    self.assertGreater(len(modules), 50)
    for path in modules:
      for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
          names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
          names = [node.module]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
          self.assertNotIn(node.func.id, ("eval", "exec", "__import__"), path)
        elif isinstance(node, ast.keyword):
          self.assertNotEqual(node.arg, "allow_pickle", path)
        self.assertEmpty({n.split(".")[0] for n in names} & _UNPICKLERS, path)

  def test_loading_a_checkpoint_runs_no_code(self):
    root = pathlib.Path(self.create_tempdir()) / "run"
    config = untrained.make_run(root, untrained.ONE)
    directory = root / workdirs.CHECKPOINTS / "0"
    # A module that a checkpoint names as what reads it.
    place = pathlib.Path(self.create_tempdir("modules"))
    (place / "stranger.py").write_text("raise SystemExit('code was run')")
    self.enter_context(mock.patch.object(sys, "path", [str(place), *sys.path]))
    path = directory / "_CHECKPOINT_METADATA"
    described = json.loads(path.read_text())
    self.assertNotEmpty(described["item_handlers"])
    for item in described["item_handlers"]:
      described["item_handlers"][item] = "stranger.Handler"
    path.write_text(json.dumps(described))
    # Pickled code, under names by which others' checkpoints have it.
    for name in ("data.pkl", "state/default.npy", "meta/data.pkl"):
      (directory / name).write_bytes(pickle.dumps(Harmful()))
    sys.addaudithook(_listen)  # there is no way to take it back
    pickle.loads(pickle.dumps(Harmful()))
    self.assertNotEmpty(_events)  # it hears what it listens for
    self.assertNotEmpty(_harm)
    _events.clear()
    _harm.clear()
    checkpoints.verify_run(config, root)
    checkpoints.load_model(root)
    template = checkpoints.make_template(config, build.create_model(config))
    opened = checkpoints.Checkpoints(root, template)
    self.assertIsNotNone(opened.latest)
    opened.close()
    self.assertEmpty(_events)
    self.assertEmpty(_harm)
    self.assertNotIn("stranger", sys.modules)

  def test_a_pickle_instead_of_a_checkpoint(self):
    root = pathlib.Path(self.create_tempdir()) / "run"
    config = untrained.make_run(root, untrained.ONE)
    template = checkpoints.make_template(config, build.create_model(config))
    directory = root / workdirs.CHECKPOINTS / "0"
    for path in directory.rglob("*"):
      if path.is_file():
        path.write_bytes(pickle.dumps(Harmful()))
    _harm.clear()
    with self.assertRaises(checkpoint_file.DamagedError):
      checkpoint_file.read(root, 0, template)
    self.assertEmpty(_harm)

  @parameterized.parameters(
    ("[1]", "config.json is damaged"),
    ("[" * 100_000, "config.json is damaged"),
    ("\x00", "config.json is damaged"),
    ('{"name": "mnist", "model.features": 3}', "config.json is damaged"),
    ('{"name": "mnist", "model": 3}', "config.json, config.model is 3"),
    ("{}", "config.json, config.name is missing"),
    ('{"model": 3}', "config.json, config.name is missing"),
  )
  def test_a_config_that_is_none(self, content, message):
    root = pathlib.Path(self.create_tempdir())
    (root / "config.json").write_text(content)
    with self.assertRaisesRegex(UserError, message):
      checkpoints.load_model(root)

  def test_a_config_larger_than_any_machine(self):
    root = pathlib.Path(self.create_tempdir()) / "run"
    config = untrained.make_run(root, untrained.ONE)
    config.quantizer.codebook_size = 2**30
    config.quantizer.embedding_dim = 256  # 1 TiB
    with self.assertRaisesRegex(UserError, "no checkpoint of .* is intact"):
      checkpoints.load_state(config, root)


class PlacesTest(sources.TestCase):
  """An archive is read where it lies; its names are no paths."""

  def setUp(self):
    super().setUp()
    self.secret = self.root / "secret"
    self.secret.write_bytes(b"\0" * 3073)
    self.before = self.others()

  def others(self):
    return {
      path: path.read_bytes()
      for path in self.root.rglob("*")
      if path.is_file() and not path.is_relative_to(self.root / "tfds")
    }

  def _tar(self, change):
    """Rewrites CIFAR-10's archive, each member as `change` has it."""
    sources.write("cifar10", self.root)
    path = self.archives / "cifar-10-binary.tar.gz"
    with tarfile.open(path) as tar:
      members = [(m, tar.extractfile(m).read()) for m in tar]
    with tarfile.open(path, "w:gz") as tar:
      for member, content in members:
        for changed in change(member):
          tar.addfile(changed, io.BytesIO(content))
    return path

  def _unchanged(self, path):
    self.before[path] = path.read_bytes()
    self.assertEqual(self.others(), self.before)

  def test_more_members_that_would_land_elsewhere(self):
    def change(member):
      yield member
      for name in ("../evil", "/tmp/evil", f"{self.root}/evil"):
        evil = tarfile.TarInfo(name)
        evil.size = member.size
        yield evil
      link = tarfile.TarInfo("cifar-10-batches-bin/link")
      link.type, link.linkname = tarfile.SYMTYPE, str(self.secret)
      yield link

    path = self._tar(change)
    self.assertLen(sources.load("cifar10", self.root)["train"], 10)
    self._unchanged(path)
    self.assertFalse(os.path.exists("/tmp/evil"))

  @parameterized.parameters(
    tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE
  )
  def test_a_member_that_is_no_file(self, kind):
    def change(member):
      if member.name.endswith("test_batch.bin"):
        member.type, member.size = kind, 0
        member.linkname = str(self.secret)
      yield member

    path = self._tar(change)
    message = "archive .* is damaged .*test_batch.bin is no file"
    self.refused(message, "cifar10")
    self._unchanged(path)

  @parameterized.parameters(
    "../../{}/{}", "/{}/{}", "a/../../../{}/{}", "..\\{}/{}"
  )
  def test_members_of_a_zip_under_other_paths(self, pattern):
    sources.write("diabetic_retinopathy", self.root)
    path = self.archives / "diabetic-retinopathy-dataset.zip"
    with zipfile.ZipFile(path) as old:
      files = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, "w") as new:
      for name, content in files.items():
        new.writestr(pattern.format(*name.split("/")), content)
    try:
      sources.load("diabetic_retinopathy", self.root)
    except UserError:
      pass
    self._unchanged(path)

  def test_a_link_in_a_zip(self):
    sources.write("diabetic_retinopathy", self.root)
    path = self.archives / "diabetic-retinopathy-dataset.zip"
    link = zipfile.ZipInfo("Healthy/Healthy_0.png")
    link.create_system, link.external_attr = 3, 0o120777 << 16
    with zipfile.ZipFile(path) as old:
      files = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, "w") as new:
      for name, content in files.items():
        if name == link.filename:
          new.writestr(link, str(self.secret))
        else:
          new.writestr(name, content)
    message = "Healthy_0.png does not decode"
    self.refused(message, "diabetic_retinopathy")
    self._unchanged(path)


def png_of(width, height):
  """A PNG file that says that it is of some size, and has nothing."""

  def part(kind, content):
    check = zlib.crc32(kind + content).to_bytes(4)
    return len(content).to_bytes(4) + kind + content + check

  head = np.array([width, height], ">u4").tobytes() + b"\1\0\0\0\0"
  return (
    b"\x89PNG\r\n\x1a\n"
    + part(b"IHDR", head)
    + part(b"IDAT", zlib.compress(b""))
    + part(b"IEND", b"")
  )


class BombsTest(sources.TestCase):
  """Small files that unpack to large ones."""

  def bounded(self, message, name, megabytes=300):
    tracemalloc.start()
    started = time.monotonic()
    try:
      self.refused(message, name)
      _, peak = tracemalloc.get_traced_memory()
    finally:
      tracemalloc.stop()
    self.assertLess(peak, megabytes * 2**20)
    self.assertLess(time.monotonic() - started, 20)

  def test_a_gzip(self):
    sources.write("mnist", self.root)
    path = self.archives / "train-images-idx3-ubyte.gz"
    part = gzip.compress(bytes(2**26))
    path.write_bytes(part * 20)  # 1.3 GB, of 1.3 MB
    self.bounded("is damaged .it unpacks to more than 67108864 bytes", "mnist")

  def test_a_tar(self):
    sources.write("cifar10", self.root)
    path = self.archives / "cifar-10-binary.tar.gz"
    whole = gzip.decompress(path.read_bytes())
    first = tarfile.TarInfo("zeros")
    first.size = 10 * 2**26
    zeros = gzip.compress(bytes(2**26), 1) * 10
    path.write_bytes(
      gzip.compress(first.tobuf()) + zeros + gzip.compress(whole)
    )
    self.bounded("it unpacks to more than 536870912 bytes", "cifar10")
    # Or a wanted member of its own.
    first.name = "cifar-10-batches-bin/batches.meta.txt"
    first.size = 2**27
    path.write_bytes(
      gzip.compress(first.tobuf()) + zeros + gzip.compress(whole)
    )
    self.bounded("it unpacks to more than 67108864 bytes", "cifar10")

  def test_a_zip_that_lies_about_its_size(self):
    sources.write("tiny_imagenet", self.root)
    path = self.archives / "tiny-imagenet-200.zip"
    name = "tiny-imagenet-200/wnids.txt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
      zipped.writestr(name, bytes(2**27))
    self.bounded("it unpacks to more than 67108864 bytes", "tiny_imagenet")
    content = bytearray(path.read_bytes())
    for place in (22, content.index(b"PK\1\2") + 24):
      self.assertEqual(content[place : place + 4], b"\0\0\0\x08")
      content[place : place + 4] = b"\x64\0\0\0"
    path.write_bytes(content)
    self.bounded("is damaged", "tiny_imagenet")

  @parameterized.parameters((60_000, 60_000), (2**31 - 1, 3), (4097, 4096))
  def test_an_image(self, width, height):
    sources.write("diabetic_retinopathy", self.root)
    path = self.archives / "diabetic-retinopathy-dataset.zip"
    with zipfile.ZipFile(path) as old:
      files = {n: old.read(n) for n in old.namelist()}
    files["Healthy/Healthy_0.png"] = png_of(width, height)
    with zipfile.ZipFile(path, "w") as new:
      for name, content in files.items():
        new.writestr(name, content)
    self.bounded(
      "Healthy_0.png does not decode, .*(exceeds limit|more than 16777216)",
      "diabetic_retinopathy",
      megabytes=100,
    )

  def test_of_a_kind_that_starts_programs(self):
    Image.init()
    self.assertIn("EPS", Image.OPEN)
    path = self.root / "x.png"
    Image.new("RGB", (16, 16)).save(path, "EPS")
    with self.assertRaisesRegex(ValueError, "of no known format"):
      images.read(path, 3)

  def test_a_limited_file(self):
    for size, limit in ((10, 10), (10, 12), (0, 0)):
      file = limits.LimitedFile(io.BytesIO(bytes(size)), limit)
      self.assertLen(file.read(), size)
    file = limits.LimitedFile(io.BytesIO(bytes(11)), 10)
    self.assertLen(file.read(10), 10)
    with self.assertRaisesRegex(ValueError, "more than 10 bytes"):
      file.read(1)
    with self.assertRaisesRegex(ValueError, "more than 10 bytes"):
      limits.LimitedFile(io.BytesIO(bytes(11)), 10).read()
    with self.assertRaisesRegex(ValueError, "more than 10 bytes"):
      file.seek(11)
