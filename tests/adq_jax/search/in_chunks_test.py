"""Points are searched a chunk at a time, which bounds memory."""

from unittest import mock

from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adq_jax import codebook_structures
from adq_jax import nearest_codes
from adq_jax.search import nearest
from adq_jax.search import sharded

METHODS = {
  "blocked": 3,
  "screened": 8,
  "cells": 3,
  "pallas": 2,
  "dense": 2,
  "sorted": 1,
  "auto": 4,
}
GIBIBYTE = 2**30


class ChunksTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    # Searches are jitted, and the compiled ones have another chunk size.
    jax.clear_caches()
    self.addCleanup(jax.clear_caches)

  @parameterized.parameters(
    *((method, 41) for method in METHODS), ("blocked", 39), ("sorted", 26)
  )
  def test_chunks_change_no_code(self, method, num_points):
    dim = METHODS[method]
    rng = np.random.default_rng(0)
    z = rng.normal(size=(num_points, dim)).astype(np.float32)
    z[7], z[-1] = np.nan, np.inf
    codebook = rng.normal(size=(50, dim)).astype(np.float32)
    expected = nearest_codes(z, codebook, method=method)
    jax.clear_caches()
    with mock.patch.object(nearest, "points_at_once", lambda dim: 13):
      found = nearest_codes(z, codebook, method=method)
      if dim <= 8:
        index = nearest.index_codebook(codebook)
        indexed = nearest_codes(z, index)
        chex.assert_trees_all_equal(indexed, expected)
    chex.assert_trees_all_equal(found, expected)

  @parameterized.parameters((1,), (4,), (8,))
  def test_chunks_change_no_code_of_a_sharded_codebook(self, dim):
    rng = np.random.default_rng(0)
    z = rng.normal(size=(8, 21, dim)).astype(np.float32)
    z[1, 3] = np.nan
    codebook = rng.normal(size=(64, dim)).astype(np.float32)
    expected = nearest_codes(z, codebook)
    jax.clear_caches()
    with mock.patch.object(nearest, "points_at_once", lambda dim: 80):
      codes, codewords = jax.pmap(
        lambda z, c: sharded.nearest_codes(z, c, "devices"), "devices"
      )(z, codebook.reshape(8, 8, dim))
    chex.assert_trees_all_equal(codes, expected)
    chex.assert_trees_all_equal(codewords, codebook[expected])

  @parameterized.parameters((512, 128), (32_768, 2), (65_536, 1))
  def test_memory_beside_the_arguments_is_at_most_a_gibibyte(self, *structure):
    self.check_memory(structure, "auto", 2**20)

  @parameterized.product(
    structure=(*codebook_structures(65_536), (131_072, 8), (4096, 512)),
    method=("auto", "blocked", "screened"),
  )
  @pytest.mark.slow
  def test_memory_of_other_structures_and_methods(self, structure, method):
    self.check_memory(structure, method, 2**23)

  def check_memory(self, structure, method, num_points):
    z = jax.ShapeDtypeStruct((num_points, structure[1]), jnp.float32)
    codebook = jax.ShapeDtypeStruct(structure, jnp.float32)
    search = jax.jit(lambda z, c: nearest_codes(z, c, method=method))
    analysis = search.lower(z, codebook).compile().memory_analysis()
    self.assertLess(analysis.temp_size_in_bytes, GIBIBYTE)
