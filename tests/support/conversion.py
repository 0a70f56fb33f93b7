"""Images and places for tests that encode and decode."""

import contextlib
import io
import pathlib
import shutil
import tempfile

from absl.testing import parameterized
import numpy as np
from PIL import Image

from experiments.errors import UserError
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
