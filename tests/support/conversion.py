"""Images and places for tests that encode and decode."""

import contextlib
import io
import pathlib
import shutil
import tempfile

from absl.testing import parameterized
import jax.numpy as jnp
import numpy as np
from PIL import Image

from adq_jax.streams import symbols
from experiments.data import augment
from experiments.errors import UserError
from experiments.runs import frequencies
from experiments.tokens import decoding
from experiments.tokens import encoding
from experiments.tokens import token_file
from tests.support import sources
from tests.support import untrained

SIDES = ((16, 16), (16, 16), (16, 16))


def make_images(folder, sides=SIDES):
  rng = np.random.default_rng(0)
  (folder / "below").mkdir(parents=True)
  for i, (height, width) in enumerate(sides):
    name = "below/x.bmp" if i == 1 else f"{i}.png"
    picture = sources.picture(rng, width, height)
    Image.fromarray(picture).save(folder / name)


class Case(parameterized.TestCase):
  """A case with places for a run, images, a token file and decoded images."""

  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.create_tempdir())
    self.run_dir = self.root / "run"
    self.folder = self.root / "images"
    self.file = self.root / "x.tokens"
    self.output = self.root / "decoded"

  def said(self, function, *arguments, **options):
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
      function(self.config, self.run_dir, *arguments, **options)
    return output.getvalue()

  def refused(self, message, function, *arguments, **options):
    before = sorted(self.root.rglob("*"))
    with self.assertRaisesRegex(UserError, message) as caught:
      self.said(function, *arguments, **options)
    self.assertNotIn("\n", str(caught.exception))
    self.assertEqual(sorted(self.root.rglob("*")), before)

  def check_tokens(self, model, state):
    """Compares what is decoded with the forward pass."""
    make_images(self.folder)
    self.said(encoding.encode, self.folder, self.file)
    self.said(decoding.decode, self.file, self.output)
    of_streams = symbols(model.streams)
    known = frequencies.read(self.run_dir, int(state.step), of_streams)
    (chunk,) = token_file.Reader(self.file).chunks(known)
    images = np.stack([self.pixels(self.folder / n) for n in chunk.names])
    result = model.apply(state.variables, augment.to_float(jnp.array(images)))
    values = model.to_streams(result.quantized.codes)
    for k, (value, found) in enumerate(zip(values, chunk.codes, strict=True)):
      is_sent = model.sent(k, values[:k])
      sent = value.reshape(-1) if is_sent is None else value[is_sent]
      np.testing.assert_array_equal(found, sent)
    for name, image in zip(
      chunk.names, augment.to_uint8(result.images), strict=True
    ):
      found = self.pixels(self.output / name.replace(".bmp", ".png"))
      np.testing.assert_allclose(
        found.astype(int), np.asarray(image, int), atol=1
      )

  def pixels(self, path):
    with Image.open(path) as image:
      return np.asarray(image.convert("RGB"))


class UntrainedCase(Case):
  """A case with a run of one codebook that was never trained."""

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    directory = tempfile.TemporaryDirectory()
    cls.addClassCleanup(directory.cleanup)
    cls.made = pathlib.Path(directory.name) / "run"
    cls.config = untrained.make_run(cls.made, untrained.ONE)

  def setUp(self):
    super().setUp()
    shutil.copytree(self.made, self.run_dir)
