from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adq_jax import nearest_codes
from adq_jax.search import sharded
from tests.support.small import bits

pytestmark = pytest.mark.usefixtures("without_kept_programs")
NUM_DEVICES = 8


def cases(num_points, structure):
  """Points and codewords that are hard to tell apart, by name."""
  num_codes, dim = structure
  rng = np.random.default_rng(dim)
  z = rng.normal(size=(num_points, dim)).astype(np.float32)
  codebook = rng.normal(size=structure).astype(np.float32)
  yield "random", z, codebook
  yield "offset of 1,000", z + 1000, codebook + 1000
  yield "duplicates", z, codebook[rng.integers(0, 3, num_codes)]
  # Many equally near ones, in several shards.
  yield "a coarse grid", np.round(2 * z) / 2 + 0.25, np.round(codebook)
  # All distances within a few roundings of each other.
  sphere = codebook / np.linalg.norm(codebook, axis=1, keepdims=True)
  steps = rng.integers(-6, 7, z.shape).astype(np.float32)
  middle = np.float32(0.37)
  yield "a sphere", middle + steps * np.float32(2**-25), sphere + middle
  special = z.copy()
  special[::3] = np.nan
  special[1::3, 0] = np.inf
  special[2::6] *= 1e30
  broken = codebook.copy()
  broken[0] = [np.nan] * (dim - 1) + [-0.0]
  broken[num_codes // 2] = -np.inf
  broken[-1] = 1e-30
  yield "NaN and infinities", special, broken
  yield "far points", z * 1e6, codebook


class SearchTest(parameterized.TestCase):
  @parameterized.parameters(
    # By "sorted", "cells", "screened" and "blocked"; one codeword a shard.
    (24, (4096, 1)),
    (40, (64, 1)),
    (320, (2**15, 2)),
    (24, (64, 2)),
    (120, (256, 4)),
    (8, (8, 3)),
  )
  def test_finds_what_the_unsharded_search_finds(self, num_points, structure):
    parallel = jax.pmap(
      lambda z, c: sharded.nearest_codes(z, c, "devices"), "devices"
    )
    for name, z, codebook in cases(num_points, structure):
      with self.subTest(name):
        codes, codewords = jax.tree.map(
          lambda x: np.asarray(x).reshape(num_points, *x.shape[2:]),
          parallel(
            *(x.reshape(NUM_DEVICES, -1, x.shape[1]) for x in (z, codebook))
          ),
        )
        expected = np.asarray(nearest_codes(z, codebook))
        chex.assert_trees_all_equal(codes, expected)
        # To the bit, so also -0 and NaN.
        chex.assert_trees_all_equal(bits(codewords), bits(codebook[expected]))

  @parameterized.parameters(
    # By "blocked" and "screened", and by products; one codeword a shard.
    (40, (64, 1), None),
    (24, (64, 2), 3),
    (120, (256, 4), None),
    (120, (256, 4), 3),
    (40, (64, 32), 2),
    (8, (8, 3), 1),
  )
  def test_penalties_and_prices_are_shared_out(
    self, num_points, structure, tables
  ):
    parallel = jax.pmap(
      lambda z, c, p, r: sharded.nearest_codes(z, c, "devices", p, r), "devices"
    )
    rows = () if tables is None else (tables,)
    for name, z, codebook in cases(num_points, structure):
      rng = np.random.default_rng(1)
      penalty = rng.integers(0, 5, (*rows, len(codebook))) / np.float32(2)
      price = rng.integers(0, 4, (num_points, *rows)) / np.float32(2)
      if name == "random":  # else multiples of a half, which make ties
        penalty += rng.random(penalty.shape, np.float32)
        price *= rng.random(price.shape, np.float32)
      if name != "NaN and infinities":
        penalty[..., ::3] = np.inf
        penalty[..., : len(codebook) // 8] = np.inf  # the whole first shard
      parts = np.moveaxis(penalty.reshape(*rows, NUM_DEVICES, -1), -2, 0)
      with self.subTest(name):
        codes, codewords = jax.tree.map(
          lambda x: np.asarray(x).reshape(num_points, *x.shape[2:]),
          parallel(
            z.reshape(NUM_DEVICES, -1, z.shape[1]),
            codebook.reshape(NUM_DEVICES, -1, z.shape[1]),
            parts,
            price.reshape(NUM_DEVICES, -1, *rows),
          ),
        )
        expected = np.asarray(
          nearest_codes(z, codebook, penalty=penalty, price=price)
        )
        chex.assert_trees_all_equal(codes, expected)
        chex.assert_trees_all_equal(bits(codewords), bits(codebook[expected]))

  def test_nothing_is_found_where_all_penalties_are_infinite(self):
    z, codebook = (np.ones((8, size, 3), np.float32) for size in (5, 2))
    codes, codewords = jax.pmap(
      lambda z, c: sharded.nearest_codes(
        z, c, "devices", jnp.full(2, jnp.inf), jnp.zeros(5)
      ),
      "devices",
    )(z, codebook)
    chex.assert_trees_all_equal(np.asarray(codes), np.zeros((8, 5), np.int32))
    chex.assert_trees_all_equal(np.asarray(codewords), z)

  def test_no_point(self):
    codes, codewords = jax.pmap(
      lambda z, c: sharded.nearest_codes(z, c, "devices"), "devices"
    )(jnp.zeros((NUM_DEVICES, 0, 3)), jnp.ones((NUM_DEVICES, 2, 3)))
    chex.assert_shape(codes, (NUM_DEVICES, 0))
    chex.assert_shape(codewords, (NUM_DEVICES, 0, 3))
