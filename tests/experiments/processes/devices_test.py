"""The same run on any number of devices."""

import contextlib
import io
import os
import pathlib
import signal
from unittest import mock

from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.errors import StoppedError
from experiments.model import build
from experiments.model.state import create_state
from experiments.processes import devices as device_lib
from experiments.processes.devices import AXIS
from experiments.runs import metric_log
from experiments.runs.checkpoints import load_state
from experiments.training import loop
from experiments.training import metric_writer
from tests.support import tiny

# Codewords die within three steps and are revived.
_FIELDS = {
  "quantizer.placement.init": "data",
  "quantizer.placement.revive_below": 0.2,
  "quantizer.update.decay": 0.5,
  "check_replicas": True,
}
# Sums over devices round in another order.  From step to step that little is
# multiplied, by some ten in the six steps here, while no point is so near the
# middle of two codewords that it changes sides.
_RTOL = 1e-3


def run(root, num_devices, variant, stop_after=None, **fields):
  """Trains on some devices; asked to stop while it logs the step before."""
  write = metric_writer.MetricLog.write

  def ask(log, step, split, values):
    write(log, step, split, values)
    if step + 1 == stop_after:
      os.kill(os.getpid(), signal.SIGTERM)

  chosen = jax.devices()[:num_devices]
  with (
    mock.patch.object(jax, "local_devices", lambda: chosen),
    mock.patch.object(metric_writer.MetricLog, "write", ask),
    contextlib.redirect_stdout(io.StringIO()) as output,
  ):
    try:
      loop.train_and_evaluate(tiny.config(variant, **_FIELDS, **fields), root)
    except StoppedError:
      assert stop_after
  return output.getvalue()


def curve(root):
  return [
    (line["step"], line["split"], line["values"])
    for line in metric_log.read_metrics(root)
  ]


class ReplicateTest(parameterized.TestCase):
  @parameterized.parameters(1, 8)
  def test_a_step_may_write_upon_the_copies(self, num_devices):
    original = {"a": np.arange(2**15, dtype=np.float32), "b": jnp.int32(3)}
    chosen = jax.local_devices()[:num_devices]
    copies = device_lib.replicate(original, chosen)
    chex.assert_shape(copies["a"], (num_devices, 2**15))
    chex.assert_shape(copies["b"], (num_devices,))
    increase = jax.pmap(
      lambda x: jax.tree.map(lambda y: y + 1, x),
      AXIS,
      devices=chosen,
      donate_argnums=0,
    )
    increased = jax.block_until_ready(increase(copies))
    np.testing.assert_array_equal(original["a"], np.arange(2**15))
    self.assertEqual(int(device_lib.unreplicate(increased["b"])), 4)


class DevicesTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.create_tempdir())

  def assert_alike(self, some, other):
    """The runs have the same curves, training's and validation's."""
    some, other = curve(self.root / some), curve(self.root / other)
    self.assertEqual([line[:2] for line in some], [line[:2] for line in other])
    for (_, split, a), (_, _, b) in zip(some, other, strict=True):
      names = ["mse"] + (["loss"] if split == "train" else ["psnr"])
      for name in names:
        np.testing.assert_allclose(a[name], b[name], rtol=_RTOL)

  @parameterized.parameters("adaptive", "fixed_16x4")
  @pytest.mark.slow
  def test_any_number_of_devices_learns_alike(self, variant):
    states = {}
    for count in (1, 2, 4, 8):
      root = self.root / f"{count}"
      run(root, count, variant)
      states[count] = load_state(tiny.config(variant, **_FIELDS), root)[1]
    for count in (2, 4, 8):
      self.assert_alike("1", f"{count}")
      chex.assert_trees_all_close(
        states[count].codebook, states[1].codebook, rtol=0.02, atol=1e-3
      )
    for counts in ((1, 8, 2), (2, 4, 1)):
      root = self.root / "moved_{}_{}_{}".format(*counts)
      first, second, third = counts
      run(root, first, variant, stop_after=2)
      told = run(root, second, variant, stop_after=4)
      self.assertIn("at step 2", told)
      self.assertEqual(curve(root)[-1][0], 4)
      self.assertIn("at step 4", run(root, third, variant))
      self.assert_alike("1", root.name)

  def test_codes_are_the_same_under_jit_and_any_pmap(self):
    config = tiny.config("adaptive")
    model = build.create_model(config)
    variables = create_state(config, model).variables
    rng = np.random.default_rng(0)
    images = rng.uniform(-0.5, 0.5, (16, 16, 16, 3)).astype(np.float32)

    def encode(images):
      return model.apply(variables, images, method="encode")

    expected = jax.jit(encode)(images)
    self.assertGreater(len(np.unique(expected.index)), 4)
    for count in (1, 2, 4, 8):
      codes = jax.pmap(encode, devices=jax.devices()[:count])(
        device_lib.shard(images, count)
      )
      codes = jax.tree.map(lambda x: x.reshape(16, 4, 4), codes)
      chex.assert_trees_all_equal(codes, expected)
