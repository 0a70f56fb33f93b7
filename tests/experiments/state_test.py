"""The state of models that are unlike those of the library."""

import contextlib
import io
import pathlib
from unittest import mock

from absl.testing import parameterized
import chex
import jax
import numpy as np

from experiments import checkpoints
from experiments import report
from experiments import settings
from experiments import train
from tests.experiments import tiny
from tests.experiments import toys


class WithoutCodebookTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.create_tempdir())
    self.enter_context(
      mock.patch.object(settings, "create_model", toys.create_model)
    )

  def train(self, name, num_steps):
    """Trains without what reads codes: evaluation and the last report."""
    config = tiny.config("fixed_16x4", num_steps=num_steps, batch_size=2)
    output = io.StringIO()
    with (
      contextlib.redirect_stdout(output),
      mock.patch.object(train, "Evaluator"),
      mock.patch.object(train, "describe", return_value={"mse": 1.0}),
      mock.patch.object(report, "loggable", return_value={"mse": 1.0}),
      mock.patch.object(report, "one_line", return_value=""),
      mock.patch.object(report, "finish", return_value={}),
    ):
      train.train_and_evaluate(config, self.root / name)
    return output.getvalue(), checkpoints.load_state(config, self.root / name)

  def test_trains_and_resumes_to_the_bit(self):
    told, (model, state) = self.train("a", 2)
    self.assertIn("params/quantizer/project_in/kernel", told)
    self.assertEqual(state.codebook, {})
    told, (_, resumed) = self.train("a", 4)
    self.assertIn("at step 2", told)
    _, (_, straight) = self.train("b", 4)
    chex.assert_trees_all_equal(resumed, straight)
    with self.subTest("it has learned"):
      before, after = (x.params["quantizer"] for x in (state, resumed))
      for old, new in zip(*map(jax.tree.leaves, (before, after)), strict=True):
        self.assertTrue((old != new).any())
    with self.subTest("its codes have a shape of their own"):
      images = jax.random.uniform(jax.random.key(0), (2, 16, 16, 3)) - 0.5
      codes = model.apply(resumed.variables, images, method="encode")
      self.assertEqual(codes.shape, (2, 4, 4, 3))
      self.assertGreater(len(np.unique(codes)), 1)
      chex.assert_trees_all_equal(
        model.apply(resumed.variables, images).images,
        model.apply(resumed.variables, codes, method="decode"),
      )
