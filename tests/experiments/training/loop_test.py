import contextlib
import io
import json
import pathlib
import shutil
from unittest import mock

from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
import pytest

from experiments.errors import UserError
from experiments.evaluation import run_evaluation
from experiments.model import build
from experiments.model import schedules
from experiments.model import step as step_lib
from experiments.model.state import create_state
from experiments.model.step import make_train_step
from experiments.processes import devices
from experiments.runs import checkpoint_file
from experiments.runs import metric_log
from experiments.runs.checkpoints import Checkpoints
from experiments.runs.checkpoints import load_model
from experiments.runs.checkpoints import load_state
from experiments.runs.checkpoints import make_template
from experiments.training import loop
from experiments.training import metric_writer
from tests.support import sources
from tests.support import tiny


class _Killed(BaseException):
  """What no code of the project catches."""


def run(root, **fields):
  variant = fields.pop("variant", "adaptive")
  output = io.StringIO()
  with contextlib.redirect_stdout(output):
    summary = loop.train_and_evaluate(tiny.config(variant, **fields), root)
  return summary, output.getvalue()


def template():
  config = tiny.config()
  return make_template(config, build.create_model(config))


def final_state(root, **fields):
  return load_state(tiny.config(**fields), pathlib.Path(root))[1]


class TrainTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.create_tempdir())

  def test_a_batch_larger_than_the_training_split_starts_nothing(self):
    root = self.root / "run"
    with self.assertRaisesRegex(
      UserError, "config.batch_size is 3841; it must be at most 3840, the train"
    ):
      run(root, batch_size=3841)
    self.assertEqual(
      {path.name for path in root.iterdir()}, {"config.json", "lock"}
    )

  def test_a_run_from_start_to_extension(self):
    root = self.root / "run"
    summary, output = run(root)
    for name in (
      "config.json",
      "metrics.jsonl",
      "summary.json",
      "checkpoints",
      "frequencies/6.npz",
      "tensorboard",
      "reconstructions.png",
      "selection.png",
    ):
      self.assertTrue((root / name).exists(), name)
    for word in ("psnr", "[16,4]", "[64,1]", "summary.json", "load_model"):
      self.assertIn(word, output)
    self.assertIn("quantizer/selector", output)  # the parameter table

    self.assertEqual(summary, json.loads((root / "summary.json").read_text()))
    self.assertEqual(summary["steps"], 6)
    self.assertLen(summary["codebooks"], 3)
    shares = [codebook["selection"] for codebook in summary["codebooks"]]
    np.testing.assert_allclose(sum(shares), 1, rtol=1e-6)
    self.assertLen(summary["psnr_per_source"], 10)
    self.assertLen(summary["baselines"]["resize"]["psnr_per_source"], 10)
    self.assertEqual(
      summary["rate_nominal_per_pixel"] * 16, summary["rate_nominal"]
    )
    np.testing.assert_allclose(
      summary["recon_loss_sum"], summary["mse"] * 240 / 64, rtol=1e-9
    )
    self.assertIn("drawn", summary)
    ratio = summary["recon_loss_first_batch"] / summary["recon_loss_sum"]
    self.assertBetween(ratio, 0.2, 5)
    self.assertIn("commit", summary)

    lines = metric_log.read_metrics(root)
    steps = [line["step"] for line in lines if line["split"] == "train"]
    self.assertEqual(steps, [1, 2, 3, 4, 5, 6])
    steps = [line["step"] for line in lines if line["split"] == "validation"]
    self.assertEqual(steps, [4, 6])
    self.assertLess(lines[-1]["values"]["mse"], lines[0]["values"]["mse"] * 1.5)

    with self.subTest("the model comes back in one call"):
      model, variables = load_model(root)
      images = np.zeros((2, 16, 16, 3), np.float32)
      codes = model.apply(variables, images, method="encode")
      chex.assert_shape(codes.book, (2, 4, 4))
      with self.assertRaisesRegex(UserError, "no checkpoint of step 5"):
        load_model(root, step=5)

    with self.subTest("evaluation of the checkpoint gives the same figures"):
      with contextlib.redirect_stdout(io.StringIO()):
        figures = run_evaluation.evaluate_run(tiny.config(), root)
      for name in ("mse", "rate_nominal", "rate_coded", "codebooks", "drawn"):
        self.assertEqual(figures[name], summary[name], name)

    with self.subTest("a finished run says so and does nothing"):
      again, output = run(root)
      self.assertEqual(again, summary)
      self.assertIn("a finished run of 6 steps", output)
      run(root, num_steps=2)
      config = json.loads((root / "config.json").read_text())
      self.assertEqual(config["num_steps"], 6)

    with self.subTest("without its checkpoints it is left as it is"):
      (root / "checkpoints").rename(root / "elsewhere")
      before = (root / "metrics.jsonl").read_bytes()
      with self.assertRaisesRegex(UserError, "6 steps without its checkpoints"):
        run(root, num_steps=8)
      config = json.loads((root / "config.json").read_text())
      self.assertEqual(config["num_steps"], 6)
      self.assertEqual((root / "metrics.jsonl").read_bytes(), before)
      (root / "elsewhere").rename(root / "checkpoints")

    with self.subTest("a larger num_steps goes on"):
      longer, output = run(root, num_steps=8)
      self.assertIn("at step 6", output)
      self.assertEqual(longer["steps"], 8)
      lines = metric_log.read_metrics(root)
      steps = [line["step"] for line in lines if line["split"] == "train"]
      self.assertEqual(steps, [1, 2, 3, 4, 5, 6, 7, 8])

    with self.subTest("pictures"):
      for name in ("reconstructions.png", "selection.png"):
        with Image.open(root / name) as image:
          self.assertGreater(min(image.size), 300)

  def test_a_resumed_run_is_bit_identical(self):
    fields = {
      "quantizer.placement.init": "data",
      "quantizer.placement.revive_below": 0.2,
    }
    run(self.root / "whole", **fields)
    write = metric_writer.MetricLog.write

    def die(log, step, split, values):
      write(log, step, split, values)
      if step == 5:
        raise _Killed

    with mock.patch.object(metric_writer.MetricLog, "write", die):
      with self.assertRaises(_Killed):
        run(self.root / "killed", **fields)
    self.assertEqual(tiny.logged(self.root / "killed")[-1]["step"], 5)
    _, output = run(self.root / "killed", **fields)
    self.assertIn("at step 4", output)
    chex.assert_trees_all_equal(
      final_state(self.root / "killed", **fields),
      final_state(self.root / "whole", **fields),
    )
    self.assertEqual(
      tiny.logged(self.root / "killed"), tiny.logged(self.root / "whole")
    )

  def test_a_run_has_an_identity_in_all_that_it_writes(self):
    root = self.root / "run"
    summary, _ = run(root)
    config = json.loads((root / "config.json").read_text())
    run_id = config["run_id"]
    self.assertRegex(run_id, "^[0-9a-f]{32}$")
    self.assertEqual(summary["run_id"], run_id)
    for line in (root / "metrics.jsonl").read_text().splitlines():
      self.assertEqual(json.loads(line)["run_id"], run_id)
    for path in (root / "checkpoints").glob("*/meta/metadata"):
      self.assertEqual(json.loads(path.read_text())["run_id"], run_id)
    with contextlib.redirect_stdout(io.StringIO()):
      figures = run_evaluation.evaluate_run(tiny.config(), root)
    self.assertEqual(figures["run_id"], run_id)

    with self.subTest("a run from before goes on, and is given one"):
      state = checkpoint_file.read(root, 6, template()).state
      del config["run_id"]
      (root / "config.json").write_text(json.dumps(config))
      lines = (root / "metrics.jsonl").read_text()
      old = lines.replace(f', "run_id": "{run_id}"', "")
      (root / "metrics.jsonl").write_text(old)
      del summary["run_id"]
      (root / "summary.json").write_text(json.dumps(summary))
      shutil.rmtree(root / "checkpoints")
      saved = Checkpoints(root, template())
      saved.save(state, 1.0, None)
      saved.close()
      before = tiny.logged(root)
      self.assertEqual(run(root)[0], summary)
      _, output = run(root, num_steps=8)
      self.assertIn("at step 6", output)
      self.assertNotIn("left out", output)
      self.assertEqual(tiny.logged(root)[: len(before)], before)
      config = json.loads((root / "config.json").read_text())
      self.assertRegex(config["run_id"], "^[0-9a-f]{32}$")

  @pytest.mark.slow
  def test_steps_started_together_from_here_on_are_announced(self):
    _, output = run(self.root / "run", num_steps=2)
    self.assertNotIn("rounding", output)
    fields = {"steps_per_call": 2, "log_every": 2}
    _, output = run(self.root / "run", **fields)
    self.assertRegex(
      output, "config.steps_per_call .1 there, 2 wanted.*within rounding"
    )

  @pytest.mark.slow
  def test_updates_that_are_not_finite_may_be_skipped(self):
    make_preparation = step_lib.make_preparation

    def poisoned(*arguments):
      prepare = make_preparation(*arguments)

      def prepare_poisoned(step, images):
        images, *others = prepare(step, images)
        is_bad = (step == 2) | (step == 3)
        return (jnp.where(is_bad, jnp.nan, images), *others)

      return prepare_poisoned

    fields = {"on_nonfinite": "skip", "checkpoint_every": 1}
    every = ("log_every", "eval_every", "checkpoint_every", "steps_per_call")
    with mock.patch.object(step_lib, "make_preparation", poisoned):
      summary, output = run(self.root / "run", **fields)
      _, together = run(
        self.root / "together", **fields | dict.fromkeys(every, 6)
      )
      with self.assertRaisesRegex(
        UserError, "2 updates in succession.*skipped, 1;"
      ):
        run(self.root / "limited", max_skipped=1, **fields)
    # Points that are not finite count in no loss of the quantizer.
    told = r"mse, gradient_norm, loss not finite at step {} .*"
    self.assertIn("256 points not finite up to step 3", output)
    self.assertRegex(output, told.format(3) + "skipped")
    self.assertRegex(output, told.format(4) + "skipped")
    self.assertRegex(together, told.format(3) + "2 updates skipped")
    self.assertEqual(summary["steps"], 6)
    self.assertTrue(np.isfinite(summary["mse"]))
    self.assertIsNone(tiny.logged(self.root / "run")[3]["values"]["mse"])
    _, losses = metric_log.read_series(self.root / "run", "train", "loss")
    np.testing.assert_array_equal(
      np.isfinite(losses), [True, True, False, False, True, True]
    )
    chex.assert_trees_all_close(
      final_state(self.root / "run"),
      final_state(self.root / "together"),
      rtol=1e-3,
      atol=1e-5,
    )

  @pytest.mark.slow
  def test_one_device_and_eight_learn_alike(self):
    fields = {
      "quantizer.placement.init": "data",
      "quantizer.placement.revive_below": 0.2,
    }
    run(self.root / "eight", **fields)
    with mock.patch.object(jax, "local_devices", lambda: jax.devices()[:1]):
      summary, _ = run(self.root / "one", **fields)
    self.assertEqual(summary["devices"], "1 x cpu")
    # Sums over devices round differently; six steps multiply that little.
    one, eight = (
      [line["values"] for line in tiny.logged(self.root / name)]
      for name in ("one", "eight")
    )
    for a, b in zip(one, eight, strict=True):
      np.testing.assert_allclose(a["mse"], b["mse"], rtol=1e-3)

  @pytest.mark.slow
  def test_steps_started_together_are_the_same_steps(self):
    run(self.root / "one", checkpoint_every=4)
    fields = {"steps_per_call": 2, "log_every": 2, "checkpoint_every": 4}
    # Goes on at a step that is no multiple: the first call is shorter.
    run(self.root / "two", num_steps=3)
    run(self.root / "two", **fields)
    one, two = tiny.logged(self.root / "one"), tiny.logged(self.root / "two")
    one = [line for line in one if line["step"] in {x["step"] for x in two}]
    self.assertEqual(
      [(line["step"], line["split"]) for line in one if line["step"] > 3],
      [(line["step"], line["split"]) for line in two if line["step"] > 3],
    )
    for a, b in zip(one, two, strict=False):
      if a["split"] == b["split"] == "train":
        np.testing.assert_allclose(
          a["values"]["mse"], b["values"]["mse"], rtol=1e-3
        )

  @pytest.mark.slow
  def test_images_in_memory_and_in_records_train_alike(self):
    sources.write("mnist", self.root)
    for name, budget in (("memory", 4.0), ("records", 0.0)):
      config = tiny.shrunk(
        sources.config("mnist", self.root),
        **{"data.memory_budget_gib": budget, "data.image_size": 24},
        batch_size=4,
      )
      with (
        sources.shrunk("mnist"),
        contextlib.redirect_stdout(io.StringIO()),
      ):
        summary = loop.train_and_evaluate(config, self.root / name)
      self.assertEqual(summary["recon_loss_sum"], summary["mse"] * 4 / 64)
    memory, records = self.root / "memory", self.root / "records"
    self.assertEqual(tiny.logged(memory), tiny.logged(records))
    chex.assert_trees_all_equal(load_model(memory)[1], load_model(records)[1])

  def test_a_step_is_compiled_once(self):
    config = tiny.config("fixed_32x4")
    model = build.create_model(config, devices.AXIS)
    chosen = jax.local_devices()
    state = devices.replicate(create_state(config, model), chosen)
    images = np.zeros((16, 24, 24, 3), np.uint8)
    batches = devices.prefetch([images] * 3, chosen)
    step = make_train_step(config, model, chosen)
    state, _ = step(state, next(batches))
    with jax.log_compiles(), self.assertNoLogs("jax", "WARNING"):
      state, _ = step(state, next(batches))
    state, _ = step(state, next(batches))
    self.assertEqual(int(devices.unreplicate(state.step)), 3)

  @pytest.mark.slow
  def test_a_fixed_codebook(self):
    summary, output = run(
      self.root / "run", variant="fixed_32x4", dtype="bfloat16", batch_size=12
    )
    self.assertIn("Using 6 of 8 devices", output)
    self.assertEqual(summary["rate_nominal"], 5.0)
    self.assertEqual(summary["codebooks"][0]["selection"], 1.0)
    self.assertNotIn("drawn", summary)
    self.assertFalse((self.root / "run" / "selection.png").exists())

  def test_a_loss_that_is_not_finite_stops_the_run(self):
    def explode(config):
      return lambda steps: jnp.where(steps < 2, config.learning_rate, 1e30)

    with mock.patch.object(schedules, "learning_rate", explode):
      with self.assertRaisesRegex(
        UserError, r"loss not finite at step 4 \(mse (nan|inf), "
      ):
        run(self.root / "run", variant="fixed_16x4")
    # In steps that the host starts together, it is the same one.
    fields = {"steps_per_call": 6, "log_every": 6, "eval_every": 6}
    fields["variant"] = "fixed_16x4"
    with mock.patch.object(schedules, "learning_rate", explode):
      with self.assertRaisesRegex(UserError, "not finite at step 4 "):
        run(self.root / "together", checkpoint_every=6, **fields)
    # Saved before, and kept: the steps until 2.
    model, variables = load_model(self.root / "run")
    images = np.zeros((1, 16, 16, 3), np.float32)
    chex.assert_tree_all_finite((variables, model.apply(variables, images)))
    self.assertLen(tiny.logged(self.root / "run"), 3)


class DevicesTest(parameterized.TestCase):
  @parameterized.parameters((16, 8), (12, 6), (7, 7), (1, 1), (22, 2))
  def test_the_largest_number_that_divides(self, batch_size, count):
    with contextlib.redirect_stdout(io.StringIO()) as output:
      chosen = devices.choose_devices(batch_size)
    self.assertLen(chosen, count)
    self.assertEqual("of 8 devices" in output.getvalue(), count < 8)
