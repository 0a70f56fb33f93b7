"""A small model of every kind of quantizer learns, resumes and codes images.

Its networks compute in bfloat16, in which `bfloat16_test` trains variants.
"""

import contextlib
import io
from unittest import mock

from absl.testing import parameterized
import chex
import jax
import numpy as np
import pytest

from experiments.configs import quantizers
from experiments.runs import checkpoints
from experiments.runs import metric_log
from experiments.training import finish
from experiments.training import loop
from tests.support import conversion
from tests.support import tiny

_STEPS = 50
# What a kind needs, beside its defaults.
_FIELDS = {
  "adaptive": {"capacity": 64},
  "vector": {"codebook_size": 16, "embedding_dim": 4},
  "residual": {"num_stages": 2, "codebook_size": 16, "embedding_dim": 4},
  "fsq": {"levels": (5, 5, 5)},
  "residual_fsq": {"levels": (5, 5, 5), "num_stages": 2},
  "lfq": {"num_bits": 6, "temperature": 1.0},
  "bsq": {"num_bits": 6},
  "qinco": {
    "num_stages": 2,
    "codebook_size": 16,
    "embedding_dim": 4,
    "network.num_blocks": 1,
    "network.hidden": 8,
  },
  "product": {
    "num_groups": 2,
    "codebook_size": 16,
    "embedding_dim": 4,
  },
  "grouped_residual": {
    "num_groups": 2,
    "num_stages": 2,
    "codebook_size": 16,
    "embedding_dim": 4,
  },
  "grouped_fsq": {"num_groups": 2, "levels": (5, 5)},
  "categorical": {"codebook_size": 16, "embedding_dim": 4},
}


@pytest.mark.slow
class EveryKindTest(conversion.Case):
  def setUp(self):
    super().setUp()
    one = jax.local_devices()[:1]
    self.enter_context(mock.patch.object(jax, "local_devices", lambda: one))
    # Pictures take long, and have tests of their own.
    self.enter_context(mock.patch.object(finish, "draw_pictures"))

  def train(self, kind, num_steps):
    block = {"kind": kind, **_FIELDS[kind]}
    self.config = tiny.config(
      **{f"quantizer.{name}": value for name, value in block.items()},
      **{"model.network": "cnn", "model.features": 16, "learning_rate": 1e-2},
      dtype="bfloat16",
      num_steps=num_steps,
      eval_every=_STEPS,
      checkpoint_every=_STEPS,
    )
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
      loop.train_and_evaluate(self.config, self.run_dir)
    return output.getvalue()

  @parameterized.parameters(*quantizers.kinds())
  def test_learns_resumes_and_codes_images(self, kind):
    self.train(kind, _STEPS // 2)
    self.assertIn(f"at step {_STEPS // 2}", self.train(kind, _STEPS))
    lines = metric_log.read_metrics(self.run_dir)
    mse = [x["values"]["mse"] for x in lines if x["split"] == "train"]
    self.assertLess(np.mean(mse[-5:]), 0.8 * np.mean(mse[:5]))
    model, state = checkpoints.load_state(self.config, self.run_dir)
    chex.assert_tree_all_finite(state)
    self.check_tokens(model, state)
