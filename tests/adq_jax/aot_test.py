"""What accelerators' compilers make of the search; nothing runs."""

import re

from absl.testing import parameterized
import jax
import jax.numpy as jnp
import pytest

from adq_jax import nearest_codes
from adq_jax.search import pallas
from benchmarks import aot_sharded
from benchmarks import topologies

NUM_POINTS = 8192
# The pool of the paper.
STRUCTURES = tuple((2**16 // dim, dim) for dim in (128, 64, 32, 16, 8, 4, 2, 1))


def compile_search(chip, search, structure):
  points = jax.ShapeDtypeStruct((NUM_POINTS, structure[1]), jnp.float32)
  codewords = jax.ShapeDtypeStruct(structure, jnp.float32)
  return topologies.compile_for(chip, search, points, codewords)


def direct_argmin(points, codewords):
  squares = jnp.square(points[:, None] - codewords[None]).sum(axis=-1)
  return jnp.argmin(squares, axis=1)


def expanded_argmin(points, codewords):
  products = jnp.dot(points, codewords.T, precision="highest")
  squares = jnp.square(codewords).sum(axis=1) - 2 * products
  return jnp.argmin(squares, axis=1)


def lower_precisions(text):
  """Whatever a compiled program has that rounds more than float32."""
  found = re.findall(r"\b(?:bf16|f16|f8\w*)\[.*", text)
  for line in text.splitlines():
    if re.search(r" (?:dot|convolution)\(", line):
      if "operand_precision={highest,highest}" not in line:
        found.append(line)
  return [line[:200] for line in found]


@pytest.mark.slow
class AheadOfTimeTest(parameterized.TestCase):
  def require(self, chip):
    package = topologies.missing_package(chip)
    if package:
      self.skipTest(f"no compiler for {chip}: pip install {package}")

  @parameterized.product(chip=topologies.CHIPS, structure=STRUCTURES)
  def test_kernel_compiles_and_takes_little_memory(self, chip, structure):
    self.require(chip)
    platform = "gpu" if chip == "H100" else "tpu"

    def search(points, codewords):
      return pallas.search(points, codewords, platform=platform)

    compiled = compile_search(chip, search, structure)
    self.assertIn("nearest_codes", compiled.as_text())
    memory = compiled.memory_analysis()
    self.assertLess(memory.temp_size_in_bytes, 2**25)

  @parameterized.parameters(*topologies.CHIPS)
  def test_kernel_compiles_for_the_widest_codewords(self, chip):
    self.require(chip)
    platform = "gpu" if chip == "H100" else "tpu"

    def search(points, codewords):
      return pallas.search(points, codewords, platform=platform)

    compile_search(chip, search, (1001, pallas.MAX_WIDTH))

  @parameterized.product(
    chip=("v5e", "v6e"),
    method=("auto", "blocked"),
    structure=((4096, 16), (8192, 8), (32768, 2), (65536, 1)),
  )
  def test_search_is_float32_throughout(self, chip, method, structure):
    self.require(chip)

    def search(z, codebook):
      return nearest_codes(z, codebook, method=method)

    text = compile_search(chip, search, structure).as_text()
    self.assertEmpty(lower_precisions(text))

  @parameterized.product(
    chip=("v5e", "v6e"),
    search=(direct_argmin, expanded_argmin),
    structure=((4096, 16), (65536, 1)),
  )
  def test_an_argmin_that_leaves_the_minimum_unused_is_not(
    self, chip, search, structure
  ):
    self.require(chip)
    text = compile_search(chip, search, structure).as_text()
    self.assertRegex("\n".join(lower_precisions(text)), r"bf16\[")

  def test_a_sharded_codebook_stays_in_its_shards(self):
    self.require(topologies.POD)
    codebook_size, num_points = aot_sharded.CODEBOOK_SIZE, aot_sharded.POINTS
    compiled = aot_sharded.compile_step(codebook_size, 8, num_points)
    text = compiled.as_text()
    self.assertEmpty(lower_precisions(text))
    rows = {row["kind"]: row["KiB"] for row in aot_sharded.collectives(text)}
    # Points and codes, of all devices; codewords and their indices.
    points = 16 * num_points * (8 + 1) * 4 / 1024
    self.assertEqual(rows["all-gather"], points)
    self.assertEqual(rows["all-to-all"], points)
    self.assertLess(rows["all-reduce"], 1)
    shard = codebook_size // 16 * (2 * 8 + 1) * 4
    memory = compiled.memory_analysis()
    self.assertLess(memory.argument_size_in_bytes, 1.1 * shard)
    self.assertLess(memory.temp_size_in_bytes, shard)

  def test_unknown_chips_are_named(self):
    with self.assertRaisesRegex(ValueError, "chip is 'v9'.*'v5e'"):
      topologies.devices("v9")
