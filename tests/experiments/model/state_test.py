from absl.testing import parameterized
import chex
import jax
import numpy as np

from experiments.model import build
from experiments.model import state as states
from experiments.processes.devices import AXIS
from tests.support import tiny


class StateTest(parameterized.TestCase):
  def test_a_state_is_a_function_of_the_config(self):
    config = tiny.config("fixed_16x4")
    model = build.create_model(config)
    first, again = (states.create_state(config, model) for _ in range(2))
    chex.assert_trees_all_equal(first, again)
    self.assertEqual(first.step, 0)
    self.assertCountEqual(first.variables, ["params", "codebook"])
    config.seed = 1
    other = states.create_state(config, model)
    self.assertFalse(
      np.array_equal(
        *(
          jax.tree.leaves(state.params["encoder"])[-1]
          for state in (first, other)
        )
      )
    )

  def test_copies_come_back_as_they_were(self):
    config = tiny.config("fixed_16x4")
    state = states.create_state(config, build.create_model(config))
    copies = states.to_devices(state, jax.devices()[:2])
    chex.assert_tree_shape_prefix(copies, (2,))
    back = states.to_host(copies, is_sharded=False)
    chex.assert_trees_all_equal(back, state)
    chex.assert_trees_all_equal(states.merge(back), state)

  def test_shards_come_back_whole(self):
    config = tiny.config(
      "fixed_16x4", **{"quantizer.shard_codebook": True, "batch_size": 4}
    )
    model = build.create_model(config, AXIS)
    devices = jax.devices()[:4]
    state = states.create_on_devices(config, model, devices)
    for leaf in jax.tree.leaves(state.codebook):
      self.assertEqual(leaf.shape[0], 4)
    host = states.to_host(state, is_sharded=True)
    self.assertLen(host.codebook, 4)
    expected = states.create_state(config, model)
    chex.assert_trees_all_equal(states.merge(host), expected)
    # Another number of devices takes other shards of the same codebook.
    moved = states.to_host(
      states.to_devices(host, jax.devices()[:2]), is_sharded=True
    )
    self.assertLen(moved.codebook, 2)
    chex.assert_trees_all_equal(states.merge(moved), expected)
