"""What the README shows is what is true."""

from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adq_jax import merge_codebook
from adq_jax import nearest_codes
from tests.support import pages

_README = pages.PAGES["README.md"]


def _example(with_text: str) -> str:
  """The only Python example that has a text."""
  (example,) = (
    code for code in pages.examples("README.md") if with_text in code
  )
  return example


class ReadmeTest(parameterized.TestCase):
  @pytest.mark.slow
  def test_the_quantizer_example_runs(self):
    names = {}
    exec(_example("AdaptiveQuantizer("), names)
    self.assertEqual(names["codes"].book.shape, (8, 16, 16))
    self.assertEqual(names["values"].shape, names["z"].shape)
    self.assertTrue(jnp.isfinite(names["loss"]))

  def test_the_sharded_example_runs(self):
    example = _example("shard_codebook=True")
    self.assertIn("2**24", example)
    names = {"jax": jax, "jnp": jnp}  # imported in the example before
    # The same in little memory.
    exec(example.replace("2**24", "2**12"), names)
    shards, quantizer = names["shards"], names["quantizer"]
    num_devices = jax.device_count()
    chex.assert_shape(
      shards["embedding"], (num_devices, 2**12 // num_devices, 8)
    )
    self.assertEqual(shards["embedding"].sharding, names["over_devices"])
    z = jax.random.normal(jax.random.key(1), (num_devices, 5, 8))
    codes = jax.pmap(
      lambda shard, z: quantizer.apply({"codebook": shard}, z).codes, "devices"
    )(shards, z)
    codebook = merge_codebook(jax.device_get(shards))["embedding"]
    np.testing.assert_array_equal(
      codes.reshape(-1), nearest_codes(z.reshape(-1, 8), codebook)
    )
