"""Mutated archives, token files and checkpoints: 16,700 of them.

Each must be read right or refused in a line, in little time and memory.
"""

import contextlib
import dataclasses
import gzip
import io
import json
import pathlib
import resource
import tempfile
import time
import zipfile

from absl.testing import parameterized
import chex
import numpy as np
from PIL import Image
import pytest

from adq_jax.streams import symbols
from experiments.data import celeba
from experiments.errors import UserError
from experiments.model import build
from experiments.runs import checkpoint_file
from experiments.runs import checkpoints
from experiments.runs import workdir as workdirs
from experiments.tokens import token_file
from tests.support import old_tokens
from tests.support import sources
from tests.support import token_files
from tests.support import untrained

_SECONDS = 10  # for one of them, on a slow machine
_MEMORY = 2**30  # bytes, beyond what the process has
_VALUES = (0, 1, 0x7F, 0x80, 0xFF, 2**15, 2**16 - 1, 2**31, 2**32 - 1, 2**63)
_LEAVES = (
  *(None, True, -1, 0, 2**31, 2**63, 10**400, 0.5, 1e308, float("nan")),
  *("", "x", "../x", "x" * 5000, "\0", [], {}, [[]], [0], {"a": {}}),
)


def mutate(rng, content):
  """Changes some bytes, in one way or a few."""
  content = bytearray(content)
  for _ in range(rng.geometric(0.6)):
    if not content:
      break
    place = int(rng.integers(len(content)))
    length = int(min(rng.geometric(0.1), len(content) - place))
    kind = rng.integers(7)
    if kind == 0:
      content[place] ^= 1 << rng.integers(8)
    elif kind == 1:
      content[place : place + length] = rng.bytes(length)
    elif kind == 2:
      del content[place:]
    elif kind == 3:
      del content[place : place + length]
    elif kind == 4:
      content[place:place] = content[place : place + length] * 2
    elif kind == 5:
      content[place:place] = rng.bytes(length)
    else:
      width = 2 ** int(rng.integers(4))
      value = int(rng.choice(np.array(_VALUES, np.uint64)))
      order = ("little", "big")[rng.integers(2)]
      number = (value % 2 ** (8 * width)).to_bytes(width, order)
      content[place : place + width] = number
  return bytes(content)


def mutate_json(rng, value):
  """Changes a leaf or a branch of what a JSON file holds."""
  if not isinstance(value, dict | list) or not value or rng.random() < 0.1:
    return _LEAVES[rng.integers(len(_LEAVES))]
  keys = list(value) if isinstance(value, dict) else range(len(value))
  key = keys[int(rng.integers(len(keys)))]
  changed = value.copy()
  kind = rng.integers(8)
  if kind == 0:
    del changed[key]
  elif kind == 1 and isinstance(value, dict):
    changed[f"{key}x"] = changed.pop(key)
  else:
    changed[key] = mutate_json(rng, value[key])
  return changed


class Fuzzing(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.create_tempdir())
    self.rng = np.random.default_rng(int.from_bytes(b"fuzz"))
    # Beyond it an allocation fails, and `refused` tells.
    limits = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
    used = pages * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + _MEMORY, limits[1]))
    self.addCleanup(resource.setrlimit, resource.RLIMIT_AS, limits)
    self.outcomes = {"refused": 0, "read": 0}

  @contextlib.contextmanager
  def refused(self, kind=UserError):
    """What is inside may be refused, in a line and soon; nothing else."""
    started = time.monotonic()
    try:
      yield
      self.outcomes["read"] += 1
    except kind as error:
      self.outcomes["refused"] += 1
      self.assertNotIn("\n", str(error))
      while error is not None:
        self.assertNotIsInstance(error, MemoryError)
        self.assertNotIn("RESOURCE_EXHAUSTED", str(error))
        error = error.__cause__ or error.__context__
    self.assertLess(time.monotonic() - started, _SECONDS)


@pytest.mark.slow
class TokensTest(Fuzzing):
  @parameterized.product(
    streams=[token_files.POOL, token_files.LEVELS, token_files.GRIDS],
    has_right_hash=[False, True],
  )
  def test_token_files(self, streams, has_right_hash):
    path = self.root / "x.tokens"
    # The codes are those of the model in one chunk, and not in the other.
    chunks = [*token_files.chunks(streams, counts=(4,), height=32, width=32)]
    skewed = [np.minimum(codes, 1) for codes in chunks[0].codes]
    chunks[0] = dataclasses.replace(chunks[0], codes=tuple(skewed))
    chunks += token_files.chunks(streams, counts=(1,))
    reference = [np.arange(symbol.alphabet) for symbol in symbols(streams)]
    known, tables = token_files.frequencies_of(streams, reference)
    head = token_files.header(streams, tables=tables)
    token_files.write(path, head, chunks, known)
    self.check(path, has_right_hash, known)

  @parameterized.product(
    streams=[token_files.POOL, token_files.GRIDS], has_right_hash=[False, True]
  )
  def test_token_files_of_the_second_version(self, streams, has_right_hash):
    path = self.root / "x.tokens"
    fields = old_tokens.fields_of(token_files.header())
    chunks = token_files.chunks(streams)
    old_tokens.write_second(path, fields, streams, chunks)
    self.check(path, has_right_hash)

  @parameterized.product(sizes=[(16, 100, 1), (7,)], has_right_hash=[0, 1])
  def test_token_files_of_the_first_version(self, sizes, has_right_hash):
    path = self.root / "x.tokens"
    fields = old_tokens.fields_of(token_files.header())
    chunks = []
    for names in (["a", "b", "c", "d"], ["e"]):
      book = self.rng.integers(0, len(sizes), (len(names), 3, 5))
      indices = [
        self.rng.integers(0, n, (book == i).sum()) for i, n in enumerate(sizes)
      ]
      chunks.append((names, book, indices))
    old_tokens.write_first(path, fields, [[n, 2] for n in sizes], chunks)
    self.check(path, has_right_hash)

  def check(self, path, has_right_hash, known=None):
    content = path.read_bytes()
    end = token_files.START + int.from_bytes(content[10:14])
    header = json.loads(content[token_files.START : end])
    for trial in range(1300):
      if trial % 4:
        # Among the chunks, lest most have a header that cannot be parsed.
        kept = end if trial % 4 == 1 else 0
        changed = content[:kept] + mutate(self.rng, content[kept:])
      else:
        other = json.dumps(mutate_json(self.rng, header)).encode()
        head = content[:10] + len(other).to_bytes(4)
        changed = head + other + content[end:]
      if has_right_hash:
        changed = token_files.rehash(changed)
      path.write_bytes(changed)
      with self.refused():
        reader = token_file.Reader(path)
        if not has_right_hash:
          self.assertEqual(changed, content)
        count = 0
        for chunk in reader.chunks(known):
          count += len(chunk.names)
          for codes, stream in zip(
            chunk.codes, reader.header.streams, strict=True
          ):
            in_range = (0 <= codes) & (codes < stream.alphabet)
            self.assertTrue(in_range.all())
        self.assertEqual(count, reader.header.num_images)
    self.assertGreater(self.outcomes["refused"], 700)
    if has_right_hash:
      # Some changes are of names or codes; few of codes that a range coder has.
      least = 50 if known is None else 15
      self.assertGreater(self.outcomes["read"], least)


@pytest.mark.slow
class ArchivesTest(Fuzzing):
  def _mutated(self, path, content):
    """The bytes of an archive, or what is in it, changed."""
    rng = self.rng
    if rng.random() < 0.3:
      return mutate(rng, content)
    if path.suffix == ".txt":
      return mutate(rng, content)
    if path.suffix == ".gz":
      return gzip.compress(mutate(rng, gzip.decompress(content)), 1)
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old:
      files = {name: old.read(name) for name in old.namelist()}
    # Of text files there are fewer than of images.
    texts = [name for name in files if name.endswith(".txt")]
    names = texts if texts and rng.random() < 0.5 else list(files)
    name = names[rng.integers(len(names))]
    kind = rng.integers(4)
    with zipfile.ZipFile(file, "w") as new:
      for other, member in files.items():
        if other != name:
          new.writestr(other, member)
        elif kind == 0:
          changed = mutate(rng, name.encode()).decode("latin1")
          new.writestr(changed.replace("\0", "") or "x", member)
        elif kind < 3:
          new.writestr(name, mutate(rng, member))
    return file.getvalue()

  @parameterized.parameters(*sources.BUILDERS)
  def test_archives(self, name):
    sources.write(name, self.root)
    names = [archive.name for archive in sources.BUILDERS[name].ARCHIVES]
    paths = {name: self.root / "archives" / name for name in names}
    whole = {path: path.read_bytes() for path in paths.values()}
    place = self.root / "builder"
    options = {"data_dir": str(place)}
    if name == "celeba":
      attributes = sources.celeba_config.get_config().data.attributes
      options["config"] = celeba.AttributesConfig(attributes)
    self.enter_context(sources.shrunk(name))
    for _ in range(800):
      path = list(whole)[self.rng.integers(len(whole))]
      path.write_bytes(self._mutated(path, whole[path]))
      with self.refused():
        builder = sources.BUILDERS[name](**options)
        features = builder.info.features
        for examples in builder.read_archives(paths).values():
          for _, example in examples:
            features.encode_example(example)
            with Image.open(io.BytesIO(example["image"])) as image:
              size = (image.height, image.width)
              self.assertEqual(size, features["image"].shape[:2])
      path.write_bytes(whole[path])
      self.assertFalse(place.exists())
      self.assertLen(list((self.root / "archives").iterdir()), len(whole))
    self.assertGreater(self.outcomes["refused"], 100)


@pytest.mark.slow
class CheckpointsTest(Fuzzing):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    directory = tempfile.TemporaryDirectory()
    cls.addClassCleanup(directory.cleanup)
    cls.run_dir = pathlib.Path(directory.name) / "run"
    config = untrained.make_run(cls.run_dir, untrained.ONE)
    model = build.create_model(config)
    cls.template = checkpoints.make_template(config, model)
    cls.expected = checkpoint_file.read(cls.run_dir, 0, cls.template)

  def _mutated(self, path, content):
    try:
      described = json.loads(content)
    except ValueError:
      return mutate(self.rng, content)
    if self.rng.random() < 0.4:
      return mutate(self.rng, content)
    described = mutate_json(self.rng, described)
    if path.name == "metadata" and isinstance(described, dict):
      # The hash is no signature.
      described.pop("sha256", None)
      described["sha256"] = checkpoint_file.json_hash(described)
    return json.dumps(described).encode()

  def test_descriptions_and_what_orbax_knows(self):
    directory = self.run_dir / workdirs.CHECKPOINTS / "0"
    described = directory / "meta" / "metadata"
    files = [path for path in directory.rglob("*") if path.is_file()]
    self.assertIn(directory / "state" / "_METADATA", files)
    # Most trials go to the two that are JSON and are read.
    files += [described, directory / "state" / "_METADATA"] * len(files)
    for _ in range(1500):
      path = files[self.rng.integers(len(files))]
      content = path.read_bytes()
      path.write_bytes(self._mutated(path, content))
      try:
        with self.refused(checkpoint_file.DamagedError):
          found = checkpoint_file.read(self.run_dir, 0, self.template)
          chex.assert_trees_all_equal(found.state, self.expected.state)
          self.assertIsInstance(found.seconds, float)
          self.assertIsInstance(found.mse, float | None)
          if path != described:
            self.assertEqual(found.seconds, self.expected.seconds)
      finally:
        path.write_bytes(content)
    self.assertGreater(self.outcomes["refused"], 500)
