"""What the README shows is what is true."""

import re

from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adq_jax import merge_codebook
from adq_jax import nearest_codes
from experiments.configs import variant_table
from experiments.configs import variants
from experiments.study import contents
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

  def test_the_table_of_variants_has_all_with_their_tables(self):
    _, rows = _README.split("| variant | what it is | in table |\n")
    told = {}
    for row in rows.partition("\n\n")[0].splitlines()[1:]:
      names, _, tables = row.strip("|").split("|")
      for name in re.findall("`(.*?)`", names):
        self.assertNotIn(name, told)
        told[name] = [int(number) for number in re.findall(r"\d", tables)]
    listed = (*variant_table.VARIANTS, *variant_table.FAMILIES)
    expected = {name: [] for name in listed}
    for number, table in contents.TABLES.items():
      for name in {
        name if name in variant_table.VARIANTS else variants._family(name)[0]
        for name in table.rows
      }:
        expected[name].append(number)
    self.assertEqual(told, expected)

  def test_what_survives_is_shown_by_tests(self):
    table = pages.PAGES["docs/robustness.md"].split("## What follows")[1]
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
    self.assertGreater(len(rows), 20)
    for row in rows:
      self.assertRegex(row, r"`\w+_test\.py::\w+` \|$")
