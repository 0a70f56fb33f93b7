import contextlib
import io
import pathlib
from unittest import mock

from absl.testing import parameterized
import chex
import jax
import numpy as np
import pytest

from experiments.data.split import Split
from experiments.errors import UserError
from experiments.evaluation import evaluator
from experiments.evaluation import run_evaluation
from experiments.model import build
from experiments.model import check
from experiments.model.state import create_on_devices
from experiments.model.state import create_state
from experiments.model.state import merge
from experiments.model.state import to_devices
from experiments.model.state import to_host
from experiments.processes import devices
from experiments.runs import checkpoint_file
from experiments.runs import checkpoints
from experiments.runs.checkpoints import load_model
from experiments.runs.checkpoints import read_state
from experiments.training import loop
from tests.support import tiny

pytestmark = pytest.mark.usefixtures("without_kept_programs")


def make_config(**fields):
  return tiny.config(
    "fixed_64x4",
    **{
      "num_steps": 4,
      "quantizer.shard_codebook": True,
      "quantizer.placement.init": "data",
      "quantizer.placement.revive_below": 0.1,
      **fields,
    },
  )


def run(root, count=8, **fields):
  output = io.StringIO()
  with (
    contextlib.redirect_stdout(output),
    mock.patch.object(
      jax, "local_devices", return_value=jax.local_devices()[:count]
    ),
  ):
    summary = loop.train_and_evaluate(make_config(**fields), root)
  return summary, output.getvalue()


class ShardedRunTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.create_tempdir())

  @pytest.mark.slow
  def test_a_run_with_a_sharded_codebook(self):
    root = self.root / "run"
    summary, output = run(root, check_replicas=True)
    self.assertRegex(output, r"codebook/quantizer/embedding *\| *\(64, 4\)")
    self.assertEqual(summary["codebooks"][0]["structure"], [64, 4])

    with self.subTest("its checkpoint keeps the shards"):
      state = read_state(make_config(), root)
      self.assertLen(state.codebook, 8)
      shard = state.codebook[3]["quantizer"]
      chex.assert_shape(shard["embedding"], (8, 4))
      self.assertIn(
        "codebook/3/quantizer/embedding", checkpoint_file.array_hashes(state)
      )
      with contextlib.redirect_stdout(io.StringIO()) as told:
        checkpoints.verify_run(make_config(), root)
      self.assertIn("checkpoint 4: intact", told.getvalue())

    with self.subTest("evaluation gives the same figures"):
      with contextlib.redirect_stdout(io.StringIO()):
        figures = run_evaluation.evaluate_run(make_config(), root)
      for name in ("mse", "rate_coded", "perplexity", "usage"):
        self.assertEqual(figures[name], summary[name], name)

    with self.subTest("the model comes back whole, for one device"):
      model, variables = load_model(root)
      merged = variables["codebook"]["quantizer"]["embedding"]
      chex.assert_shape(merged, (64, 4))
      chex.assert_trees_all_equal(merged[24:32], shard["embedding"])
      images = np.zeros((2, 16, 16, 3), np.float32)
      codes = model.apply(variables, images, method="encode")
      self.assertLess(codes.max(), 64)

    with self.subTest("a run that was interrupted ends in the same bits"):
      run(self.root / "resumed", num_steps=2)
      (self.root / "resumed" / "summary.json").unlink()
      _, output = run(self.root / "resumed")
      self.assertIn("Resuming", output)
      resumed = read_state(make_config(), self.root / "resumed")
      chex.assert_trees_all_equal(resumed, state)

    with self.subTest("it goes on on another number of devices"):
      _, output = run(root, count=2, num_steps=6)
      self.assertIn("Resuming", output)
      self.assertLen(read_state(make_config(), root).codebook, 2)

  @pytest.mark.slow
  def test_a_sharded_run_learns_what_an_unsharded_one_does(self):
    sharded, _ = run(self.root / "sharded", num_steps=2)
    whole, _ = run(
      self.root / "whole", num_steps=2, **{"quantizer.shard_codebook": False}
    )
    for name in ("mse", "psnr", "perplexity", "rate_coded"):
      np.testing.assert_allclose(sharded[name], whole[name], rtol=1e-3)

  def test_the_first_state_is_that_of_an_unsharded_run(self):
    config = make_config()
    model = build.create_model(config, devices.AXIS)
    made = create_on_devices(config, model, jax.devices())
    for leaf in jax.tree.leaves(made):
      self.assertLen(leaf.sharding.device_set, 8)
      self.assertEqual(leaf.addressable_shards[0].data.shape[0], 1)
    expected = create_state(config, build.create_model(config))
    chex.assert_trees_all_close(
      merge(to_host(made, is_sharded=True)), expected, rtol=1e-6
    )

  def test_shards_move_to_another_number_of_devices(self):
    config = make_config()
    model = build.create_model(config, devices.AXIS)
    made = create_on_devices(config, model, jax.devices())
    state = jax.tree.map(np.array, to_host(made, is_sharded=True))
    self.assertLen(state.codebook, 8)
    moved = to_devices(state, jax.devices()[:2])
    chex.assert_shape(moved.codebook["quantizer"]["embedding"], (2, 32, 4))
    back = to_host(moved, is_sharded=True)
    self.assertLen(back.codebook, 2)
    chex.assert_trees_all_equal(merge(back), merge(state))

  def test_codes_are_counted_over_all_shards(self):
    config = make_config(
      **{
        "quantizer.price": "coded",
        "rate_weight.lowest": 1e-4,
        "rate_weight.highest": 10.0,
      }
    )
    images = np.random.default_rng(0).integers(0, 256, (16, 16, 16, 3))
    split = Split(images.astype(np.uint8), np.zeros(16, np.int32))
    counts = []
    for axis_name, used in (
      (devices.AXIS, jax.devices()),
      (None, jax.devices()[:1]),
    ):
      model = build.create_model(config, axis_name)
      variables = create_on_devices(config, model, used).variables
      tested = evaluator.Evaluator(config, model, used)
      counts.append(tested.count(variables, split, [1e-4, 0.1, 10.0]))
    chex.assert_trees_all_equal(*counts)
    self.assertEqual(counts[0][0][0].shape, (64,))
    self.assertEqual(counts[0][0][0].sum(), counts[0][2][0].sum())

  def test_what_cannot_be_sharded(self):
    fields = {
      "quantizer.update": "gradient",
      "quantizer.placement.revive_below": 0.0,
      "quantizer.placement.init": "normal",
    }
    with self.assertRaisesRegex(UserError, "shard_codebook is True; it must"):
      check.check(make_config(**fields))
    with self.assertRaisesRegex(
      UserError, "no field 'quantizer.shard_codebook'.* kind 'adaptive' has "
    ):
      make_config(**{"quantizer.kind": "adaptive"})
    with mock.patch.object(jax, "process_count", return_value=2):
      with self.assertRaisesRegex(
        UserError, "codewords to shard is 20; .* multiple of the 8 devices"
      ):
        devices.choose_devices(16, 20)

  def test_devices_divide_the_codewords_too(self):
    with contextlib.redirect_stdout(io.StringIO()) as output:
      self.assertLen(devices.choose_devices(24, 20), 4)
    self.assertIn("batch_size, 24, and 20 codewords", output.getvalue())
