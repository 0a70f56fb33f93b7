"""Runs and token files of earlier versions; see `old_files.make`."""

import contextlib
import dataclasses
import io
import json
import pathlib
from unittest import mock
import zipfile

from absl.testing import parameterized
import chex
import numpy as np
from PIL import Image
import pytest

from experiments import files
from experiments.configs import datasets
from experiments.configs import quantizers
from experiments.runs import workdir as workdirs
from experiments.runs.checkpoints import load_state
from experiments.tokens import decoding
from experiments.training import loop
from tests.support import earlier
from tests.support import tiny
from tests.support.old_files import make

_ARCHIVES = sorted(pathlib.Path(make.__file__).parent.glob("version_*/*.zip"))


def default_config_of_a_later_version(name, default=datasets.default_config):
  config = default(name)
  config.model.of_a_later_version = 1
  return config


def of_a_later_version(kind):
  """A kind of quantizer whose class, of the same name, has one more field."""
  body = {
    "__annotations__": {"of_a_later_version": str},
    "of_a_later_version": "none",
  }
  cls = type(kind.cls.__name__, (kind.cls,), body)
  return dataclasses.replace(kind, cls=cls)


class OldFilesTest(parameterized.TestCase):
  def test_there_is_one_of_every_kind_of_model(self):
    kinds = [path.stem for path in _ARCHIVES if path.match("version_1/*")]
    self.assertCountEqual(kinds, make.KINDS)

  @parameterized.named_parameters(
    (f"{path.parent.name}_{path.stem}", path) for path in _ARCHIVES
  )
  def test_decode_as_then_although_configs_have_more_fields_now(self, archive):
    root = pathlib.Path(self.create_tempdir())
    with zipfile.ZipFile(archive) as content:
      content.extractall(root)
    run, output = root / "run", root / "found"
    self.enter_context(contextlib.redirect_stdout(io.StringIO()))
    kinds = quantizers.kinds()
    later = {name: of_a_later_version(kind) for name, kind in kinds.items()}
    self.enter_context(mock.patch.dict(kinds, later))
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


class OldRunsTest(parameterized.TestCase):
  @parameterized.parameters("fixed_16x4", "improved")
  @pytest.mark.slow
  def test_a_run_of_before_goes_on_to_the_bit(self, variant):
    root = pathlib.Path(self.create_tempdir())
    self.enter_context(contextlib.redirect_stdout(io.StringIO()))
    small = {
      "model.network": "cnn",
      "model.features": 4,
      "gradient_gap_every": 0,
      "rate_examples": 0,
    }
    if variant == "improved":
      small |= {"quantizer.structures": ((16, 4), (64, 1))}
    config = tiny.config(variant, **small)
    loop.train_and_evaluate(config, root / "now")
    config.num_steps = 4
    loop.train_and_evaluate(config, root / "before")
    path = root / "before" / workdirs.CONFIG
    then = json.loads(json.dumps(earlier.stored(config)))
    files.write_json(path, then)
    config = workdirs.read_config(root / "before")
    config.num_steps = 6
    loop.train_and_evaluate(config, root / "before")
    stored = json.loads(path.read_text())
    self.assertEqual(stored["quantizer"], then["quantizer"])
    self.assertEqual(stored["num_steps"], 6)
    self.assertEqual(
      tiny.logged(root / "before")[-1], tiny.logged(root / "now")[-1]
    )
    chex.assert_trees_all_equal(
      load_state(config, root / "before")[1],
      load_state(config, root / "now")[1],
    )
