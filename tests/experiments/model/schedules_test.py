from absl.testing import parameterized
import chex
import jax.numpy as jnp

from experiments.configs import fashion_mnist
from experiments.configs import photo_patches
from experiments.model import schedules


class SchedulesTest(parameterized.TestCase):
  def test_temperature_goes_from_num_steps_to_one(self):
    config = photo_patches.get_config()
    config.sampling.temperature = "linear"
    config.num_steps = 100
    schedule = schedules.temperature(config)
    # Step s, counted from 1, has temperature num_steps - s + 1.
    self.assertEqual(schedule(jnp.int32(0)), 100)
    self.assertEqual(schedule(jnp.int32(99)), 1)
    config.sampling.temperature = "constant"
    self.assertEqual(schedules.temperature(config)(jnp.int32(50)), 1)

  def test_learning_rate(self):
    config = fashion_mnist.get_config()
    schedule = schedules.learning_rate(config)
    chex.assert_trees_all_close(schedule(0), 1e-4, rtol=1e-6)
    chex.assert_trees_all_close(schedule(19_999), 1e-4, rtol=1e-6)
    config.schedule, config.warmup_steps, config.num_steps = "cosine", 10, 110
    schedule = schedules.learning_rate(config)
    for step, share in ((0, 0.0), (5, 0.5), (10, 1.0), (60, 0.5), (110, 0.0)):
      chex.assert_trees_all_close(schedule(step), share * 1e-4, atol=1e-9)
