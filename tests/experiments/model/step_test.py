from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

from experiments.model import build
from experiments.model.state import create_state
from experiments.model.step import make_train_step
from experiments.processes.devices import AXIS
from experiments.processes.devices import choose_devices
from experiments.processes.devices import prefetch
from experiments.processes.devices import replicate
from tests.support import tiny


class TrainStepTest(parameterized.TestCase):
  def test_points_that_are_not_finite_are_counted_over_a_call(self):
    config = tiny.config("fixed_16x4", on_nonfinite="skip", steps_per_call=2)
    devices = choose_devices(config.batch_size)
    model = build.create_model(config, AXIS)
    state = create_state(config, model)
    state = state.replace(
      params=jax.tree.map(lambda x: x * jnp.nan, state.params)
    )
    size = config.data.image_size
    images = np.zeros((config.batch_size, size, size, 3), np.uint8)
    step = make_train_step(config, model, devices)
    _, metrics = step(
      replicate(state, devices), *prefetch([images, images], devices)
    )
    points = config.batch_size * (size // config.model.downsampling) ** 2
    np.testing.assert_array_equal(metrics["nonfinite_points"], 2 * points)
