from absl.testing import parameterized
import jax
import numpy as np
import pytest

from experiments.model import build
from experiments.model.programs import make_programs
from experiments.model.state import create_state
from experiments.processes.devices import AXIS
from experiments.processes.devices import replicate
from experiments.processes.devices import shard
from tests.support import tiny


class ProgramsTest(parameterized.TestCase):
  @pytest.mark.slow
  def test_all_of_them_take_the_state_of_one_run(self):
    config = tiny.config("fixed_16x4")
    model = build.create_model(config, AXIS)
    devices = jax.devices()[:1]
    programs = make_programs(config, model, devices)
    state = replicate(create_state(config, model), devices)
    rng = np.random.default_rng(0)
    images = shard(rng.integers(0, 256, (16, 16, 16, 3), np.uint8), 1)
    gap = programs.gradient_gap(state, images)
    self.assertGreater(gap[0], 0)
    state, metrics = programs.train_step(state, images)  # consumes the state
    self.assertEqual(metrics["step"][0], 1)
    programs.check_replicas(state)
