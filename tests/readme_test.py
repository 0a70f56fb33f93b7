"""The README is short, and what it shows is true."""

import re

from absl.testing import absltest
import chex
import jax
import jax.numpy as jnp
import numpy as np

from adq_jax import check_replicated
from tests.support import pages

_README = pages.PAGES["README.md"]


class ReadmeTest(absltest.TestCase):
  def test_its_examples_run(self):
    names = pages.run("README.md")
    self.assertEqual(names["codes"].shape, (8,))
    self.assertEqual(names["codes"].dtype, jnp.int32)
    self.assertEqual(names["values"].shape, names["z"].shape)
    self.assertTrue(jnp.isfinite(names["loss"]))
    self.assertLen(jax.tree.leaves(names["gradients"]), 2)  # of one layer
    expected, state = names["by_jit"]
    codes, updated = names["by_shard_map"]
    parts, replicas = names["by_pmap"]
    check_replicated(replicas)
    embedding = np.asarray(names["variables"]["codebook"]["embedding"])
    np.testing.assert_array_equal(
      embedding[np.asarray(expected)], names["values"]
    )
    np.testing.assert_array_equal(codes, expected)
    np.testing.assert_array_equal(parts.reshape(codes.shape), expected)
    state, updated, replicas = jax.device_get((state, updated, replicas))
    chex.assert_trees_all_close(updated, state, rtol=1e-5, atol=1e-6)
    one = jax.tree.map(lambda x: x[0], replicas)
    chex.assert_trees_all_close(one, state, rtol=1e-5, atol=1e-6)

  def test_it_is_one_document(self):
    self.assertLessEqual(len(_README.splitlines()), 170)

  def test_the_first_quantizer_comes_before_training(self):
    headings = re.findall("^## (.*)$", _README, re.M)
    self.assertLess(
      headings.index("Your first quantizer"), headings.index("Train a VQ-VAE")
    )

  def test_continuous_integration_installs_and_tests_as_it_says(self):
    script = (pages.ROOT / ".ci" / "run").read_text()
    for command in (
      "install -r requirements.txt",
      "install .",
      "python -m pytest",
      "python -m pytest -m slow",
      "install --no-deps -r benchmarks/aot_requirements.txt",
    ):
      self.assertIn(command, _README)
      self.assertIn(command, script.replace("install -q", "install"))
