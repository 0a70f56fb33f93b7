from absl.testing import parameterized
import chex
import jax
import numpy as np

from experiments.model import build
from experiments.model import inputs
from experiments.processes.devices import AXIS
from experiments.processes.devices import shard
from tests.support import tiny


class PreparationTest(parameterized.TestCase):
  def prepare(self, variant, num_devices, step):
    config = tiny.config(variant)
    prepare = inputs.make_preparation(config, build.create_model(config))
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (16, 20, 20, 3), np.uint8)
    mapped = jax.pmap(
      lambda x: prepare(np.int32(step), x),
      AXIS,
      devices=jax.devices()[:num_devices],
    )
    found, rngs, choice = mapped(shard(images, num_devices))
    return found.reshape(16, 16, 16, 3), rngs, choice

  def test_an_example_is_prepared_alike_on_any_number_of_devices(self):
    (one, rngs, _), (two, more, _) = (
      self.prepare("adaptive", count, step=3) for count in (1, 2)
    )
    chex.assert_trees_all_equal(one, two)
    for name, key in rngs.items():
      bits = jax.random.key_data(more[name])
      np.testing.assert_array_equal(bits[0], bits[1])
      np.testing.assert_array_equal(bits[0], jax.random.key_data(key)[0])

  def test_every_step_has_its_own_randomness(self):
    first, rngs, choice = self.prepare("adaptive", 1, step=3)
    second, others, _ = self.prepare("adaptive", 1, step=4)
    self.assertFalse(np.array_equal(first, second))
    for name in rngs:
      self.assertFalse(
        np.array_equal(*map(jax.random.key_data, (rngs[name], others[name])))
      )
    self.assertEqual([*choice], ["temperature"])

  def test_a_model_that_samples_nothing_has_no_temperature(self):
    self.assertEqual(self.prepare("fixed_16x4", 1, step=0)[2], {})
