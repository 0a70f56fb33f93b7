"""Token files that earlier versions wrote; see `old_files.make`."""

import contextlib
import io
import pathlib
from unittest import mock
import zipfile

from absl.testing import parameterized
import numpy as np
from PIL import Image

from experiments.configs import datasets
from experiments.runs import workdir as workdirs
from experiments.tokens import decoding
from tests.support.old_files import make

_ARCHIVES = sorted(pathlib.Path(make.__file__).parent.glob("version_*/*.zip"))


def default_config_of_a_later_version(name, default=datasets.default_config):
  config = default(name)
  config.model.of_a_later_version = 1
  config.quantizer.of_a_later_version = "none"
  return config


class OldFilesTest(parameterized.TestCase):
  def test_there_is_one_of_every_kind_of_model(self):
    kinds = [path.stem for path in _ARCHIVES if path.match("version_1/*")]
    self.assertCountEqual(kinds, make.KINDS)

  @parameterized.named_parameters(
    (f"{path.parent.name}_{path.stem}", path) for path in _ARCHIVES
  )
  def test_decode_as_then_although_configs_have_more_fields_now(self, archive):
    root = pathlib.Path(self.create_tempdir())
    with zipfile.ZipFile(archive) as files:
      files.extractall(root)
    run, output = root / "run", root / "found"
    self.enter_context(contextlib.redirect_stdout(io.StringIO()))
    with mock.patch.object(
      datasets, "default_config", default_config_of_a_later_version
    ):
      config = workdirs.read_config(run)
      self.assertEqual(config.quantizer.of_a_later_version, "none")
      decoding.decode(config, run, root / "images.tokens", output)
    names = [path.name for path in output.iterdir()]
    self.assertLen(names, len(make.SIDES))
    for name in names:
      found, expected = (
        np.asarray(Image.open(root / folder / name)).astype(np.int32)
        for folder in ("found", "decoded")
      )
      self.assertGreater(expected.std(), 10)  # one grey would prove nothing
      # Other machines round in other ways.
      np.testing.assert_allclose(found, expected, atol=1)
