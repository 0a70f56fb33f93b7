from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp

from adq_jax import merge_codebook
from adq_jax import split_codebook
from adq_jax import VectorQuantizer
from adq_jax.codebook import shards as of_codebooks

KEYS = {"params": jax.random.key(0), "codebook": jax.random.key(1)}


class ShardsTest(parameterized.TestCase):
  def test_shards_are_neighbours_and_merge_again(self):
    state = VectorQuantizer(24, 2).init(KEYS, jnp.ones((1, 2)))
    shards = split_codebook(state, 4)
    chex.assert_trees_all_equal(
      shards["codebook"]["embedding"][1], state["codebook"]["embedding"][6:12]
    )
    chex.assert_shape(shards["codebook"]["initialized"], (4,))
    chex.assert_trees_all_equal(merge_codebook(shards), state)

  @parameterized.parameters(0, 5, 48)
  def test_as_many_codewords_on_every_device(self, num_shards):
    with self.assertRaisesRegex(
      ValueError, f"codebook_size is 24; .* of devices, {num_shards}"
    ):
      split_codebook({"embedding": jnp.ones((24, 2))}, num_shards)

  def test_fields(self):
    of_codebooks.check_field(False, None)
    of_codebooks.check_field(True, "devices")
    for value, axis_name, message in (
      (True, None, "shard_codebook is True; .* without axis_name"),
      ("yes", "devices", "shard_codebook is 'yes'; it must be one of"),
    ):
      with self.assertRaisesRegex(ValueError, message):
        of_codebooks.check_field(value, axis_name)

  def test_no_axis(self):
    with self.assertRaisesRegex(
      ValueError, "is 'devices', which .* merge_codebook"
    ):
      of_codebooks.check_shard(jnp.ones((3, 2)), 24, "devices")
