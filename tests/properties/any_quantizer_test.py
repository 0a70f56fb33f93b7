"""Every program takes any quantizer that keeps the interface."""

import contextlib
import functools
import io
from unittest import mock

import chex
import jax
import numpy as np
import pytest

from experiments.evaluation import run_evaluation
from experiments.model import build
from experiments.runs import checkpoints
from experiments.runs import summary as summary_lib
from experiments.tokens import decoding
from experiments.tokens import encoding
from experiments.training import loop
from tests.support import conversion
from tests.support import tiny
from tests.support import token_files
from tests.support import toys


class AnyQuantizerTest(conversion.Case):
  def setUp(self):
    super().setUp()
    self.enter_context(
      mock.patch.object(
        jax, "local_devices", return_value=jax.local_devices()[:2]
      )
    )

  def create(self, kind):
    replacement = functools.partial(toys.create_model, kind)
    self.enter_context(mock.patch.object(build, "create_model", replacement))

  def train(self, name, num_steps):
    self.run_dir = self.root / name
    self.config = tiny.config("fixed_16x4", num_steps=num_steps, batch_size=4)
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
      loop.train_and_evaluate(self.config, self.run_dir)
    return output.getvalue()

  def check(self, kind):
    """Trains, resumes and evaluates a model; encodes and decodes with it."""
    self.create(kind)
    straight = self.train("straight", 4)
    self.train("run", 2)
    self.assertIn("at step 2", self.train("run", 4))
    model, state = checkpoints.load_state(self.config, self.run_dir)
    _, expected = checkpoints.load_state(self.config, self.root / "straight")
    chex.assert_trees_all_equal(state, expected)
    self.assertEqual(state.codebook, {})
    figures = summary_lib.read_summary(self.run_dir)
    evaluated = self.evaluate()
    for name in ("mse", "streams", "rate_nominal", "rate_coded"):
      self.assertEqual(evaluated.get(name), figures.get(name), name)
    return model, state, figures, straight

  def evaluate(self):
    with contextlib.redirect_stdout(io.StringIO()):
      return run_evaluation.evaluate_run(self.config, self.run_dir)

  def test_levels_of_one_group(self):
    model, state, figures, told = self.check(toys.FSQ)
    self.assertIn("params/quantizer/project_in/kernel", told)
    (joint,) = figures["streams"]
    self.assertEqual((joint["name"], joint["alphabet"]), ("levels", 105))
    np.testing.assert_allclose(figures["rate_nominal"], np.log2(105), rtol=1e-6)
    self.assertNotIn("codebooks", figures)
    self.assertRegex(told, r"levels +100\.0%")
    self.assertFalse((self.run_dir / "selection.png").exists())
    self.check_tokens(model, state)

  @pytest.mark.slow
  def test_streams_that_depend_on_the_first(self):
    model, state, figures, told = self.check(toys.Depths)
    depth, *levels = figures["streams"]
    self.assertEqual(depth["sent"], 1)
    sent = [level["sent"] for level in levels]
    self.assertGreater(sent[0], sent[1])
    self.assertGreater(sent[1], 0)
    np.testing.assert_allclose(
      figures["rate_nominal"], depth["bits"] + sum(sent), rtol=1e-5
    )
    self.assertTrue((self.run_dir / "selection.png").exists())
    self.check_tokens(model, state)

  @pytest.mark.slow
  def test_two_grids(self):
    model, state, figures, _ = self.check(toys.Grids)
    self.assertEqual([s["sent"] for s in figures["streams"]], [0.25, 1])
    np.testing.assert_allclose(
      figures["rate_nominal"], np.log2(9) / 4 + np.log2(3), rtol=1e-6
    )
    self.check_tokens(model, state)

  @pytest.mark.slow
  def test_codes_that_are_not_finite_in_number(self):
    *_, figures, told = self.check(toys.Soft)
    self.assertEqual(figures["streams"], [])
    self.assertNotIn("rate_nominal", figures)
    self.assertIn("rate none", told)
    conversion.make_images(self.folder)
    message = "quantizer is a Soft, whose codes are not finite in number"
    self.refused(message, encoding.encode, self.folder, self.file)
    with self.subTest("nor is there a file that it could decode"):
      head, chunks = token_files.header(), token_files.chunks()
      token_files.write(self.file, head, chunks)
      self.refused(message, decoding.decode, self.file, self.output)
