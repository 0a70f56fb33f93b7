from absl.testing import parameterized
import chex
import hypothesis
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adq_jax import codebook_structures
from adq_jax import nearest_codes
from adq_jax.search.nearest import best_on_cpu
from adq_jax.search.nearest import index_codebook
from tests.support.exactness import check_codes
from tests.support.exactness import excess
from tests.support.search import find
from tests.support.search import KINDS
from tests.support.search import make_data
from tests.support.search import make_kind
from tests.support.search import program
from tests.support.search import quickly_compiled

METHODS = ("auto", "blocked", "screened", "dense")  # for any D
SCANS = ("blocked", "screened")  # "auto" is one of them at these small sizes

# Compiling takes nearly all of the time of these tests.  So there are few
# shapes [T, N, D], each with the methods that it may trouble.
SHAPES = (
  (0, 3, 1, ("auto", "sorted", "index")),
  (1, 1, 1, ("blocked", "screened", "sorted", "index")),
  (130, 257, 1, ("blocked", "screened", "sorted", "index")),
  (64, 4097, 1, ("auto", "blocked", "sorted", "index")),
  (1, 2, 2, ("auto", "screened", "index")),
  (257, 1025, 2, ("blocked", "screened", "index")),
  (71, 133, 3, ("blocked", "screened", "cells")),
  (33, 517, 4, ("auto", "blocked")),
  (3, 1, 5, ("blocked", "screened", "cells")),
  (130, 301, 8, ("blocked", "screened", "index")),
  (40, 129, 16, ("blocked", "screened")),
  (150, 261, 40, ("auto", "blocked", "screened")),
)


def temporary_memory(num_points, num_codewords, dim):
  shapes = (
    jax.ShapeDtypeStruct((num_points, dim), jnp.float32),
    jax.ShapeDtypeStruct((num_codewords, dim), jnp.float32),
  )
  compiled = jax.jit(nearest_codes).lower(*shapes).compile()
  return compiled.memory_analysis().temp_size_in_bytes


class NearestCodesTest(parameterized.TestCase):
  @parameterized.parameters(
    *(
      (method, num_codewords, dim)
      for num_codewords, dim in (
        *((512, 128), (513, 20), (1000, 5), (4096, 3), (8191, 2), (9, 1)),
      )
      for method in SCANS
    ),
    ("index", 1000, 5),
    ("sorted", 9, 1),
  )
  def test_the_codeword_is_nearest_in_float64(self, method, num_codewords, dim):
    z, codebook = make_data(200, num_codewords, dim)
    for offset in (np.float32(0), np.float32(1000)):
      indices = find(z + offset, codebook + offset, method)
      self.assertLessEqual(
        excess(z + offset, codebook + offset, indices).max(), 8
      )

  @parameterized.parameters(
    *((method, dim) for method in SCANS for dim in (1, 3, 16, 128)),
    ("sorted", 1),
  )
  def test_is_exact_where_codewords_crowd_far_from_the_origin(
    self, method, dim
  ):
    rng = np.random.default_rng(1)
    centre = rng.normal(size=(1, dim)) * 10
    z, codebook = make_data(100, 700, dim)
    z = (centre + 1e-4 * z).astype(np.float32)
    codebook = (centre + 1e-4 * codebook).astype(np.float32)
    indices = find(z, codebook, method)
    self.assertLessEqual(excess(z, codebook, indices).max(), 8)

  @parameterized.parameters(
    (1, 65_536, "sorted"),
    (1, 1000, "blocked"),
    (2, 32_768, "cells"),
    (2, 16_384, "blocked"),
    (4, 16_384, "screened"),
    (128, 512, "screened"),
  )
  def test_auto_chooses_a_method_on_a_cpu(self, dim, num_codewords, method):
    self.assertEqual(best_on_cpu(3136, num_codewords, dim), method)

  @parameterized.product(method=SCANS, dim=(1, 2, 8), num_codewords=(5, 333))
  def test_lowest_index_wins_ties(self, method, dim, num_codewords):
    rng = np.random.default_rng(0)
    # Small integers: distances are exact and ties are many.
    z = rng.integers(-2, 3, (300, dim)).astype(np.float32)
    codebook = rng.integers(-2, 3, (num_codewords, dim)).astype(np.float32)
    squares = np.square(z[:, None] - codebook[None]).sum(axis=-1)
    chex.assert_trees_all_equal(
      find(z, codebook, method),
      squares.argmin(axis=1).astype(np.int32),
    )

  @parameterized.parameters(*METHODS)
  def test_equal_codewords_give_index_zero(self, method):
    z, _ = make_data(50, 1, 4)
    codebook = np.ones((1000, 4), np.float32)
    indices = find(z, codebook, method)
    chex.assert_trees_all_equal(indices, np.zeros(50, np.int32))

  @parameterized.parameters(
    *((method, dim) for method in METHODS for dim in (1, 6)), ("sorted", 1)
  )
  def test_no_input_gives_an_index_out_of_range(self, method, dim):
    z, codebook = make_data(20, 70, dim)
    z[1] = np.nan
    z[2], z[3], z[4] = np.inf, -np.inf, np.finfo(np.float32).max
    z[5, 0] = np.inf
    for bad in (np.nan, np.inf, -np.inf):
      codebook[7] = bad
      indices = find(z, codebook, method)
      self.assertTrue(((indices >= 0) & (indices < 70)).all())
      self.assertEqual(indices[1], 0)
      self.assertNotIn(7, indices[6:])

  @parameterized.product(
    method=("auto", "dense"), shape=((), (3,), (2, 3, 4), (0,))
  )
  def test_codes_have_the_leading_shape(self, method, shape):
    z, codebook = make_data(24, 10, 4)
    z = z[: int(np.prod(shape))].reshape(*shape, 4)
    indices = program(method)(z, codebook)
    chex.assert_shape(indices, shape)
    chex.assert_type(indices, jnp.int32)

  @parameterized.product(method=SCANS, num_codewords=(1, 63, 129))
  def test_any_number_of_codewords(self, method, num_codewords):
    z, codebook = make_data(256, num_codewords, 3)
    chex.assert_trees_all_equal(
      find(z, codebook, method), find(z, codebook, "dense")
    )

  @parameterized.parameters(("auto", 5), ("blocked", 5), ("sorted", 1))
  def test_transformations(self, method, dim):
    z, codebook = make_data(16, 100, dim)

    def search(z, codebook):
      return nearest_codes(z, codebook, method=method)

    expected = jax.jit(search)(z, codebook)
    by_point = jax.jit(jax.vmap(search, (0, None)))(z, codebook)
    chex.assert_trees_all_equal(by_point, expected)
    shards = jax.pmap(search, in_axes=(0, None))(z.reshape(8, 2, dim), codebook)
    chex.assert_trees_all_equal(np.asarray(shards).reshape(-1), expected)
    stack = np.stack([codebook, codebook[::-1]])
    both = jax.jit(jax.vmap(search, (None, 0)))(z, stack)
    chex.assert_trees_all_equal(both, jnp.stack([expected, 99 - expected]))

  def test_transformations_of_an_index(self):
    z, codebook = make_data(16, 100, 2)
    z[:3] *= 100  # so that some need every phase of the search
    expected = find(z, codebook, "dense")
    stack = jax.vmap(index_codebook)(np.stack([codebook, codebook[::-1]]))
    search = quickly_compiled(jax.vmap(nearest_codes, (None, 0)))
    chex.assert_trees_all_equal(
      np.asarray(search(z, stack)), np.stack([expected, 99 - expected])
    )

  @parameterized.parameters(*METHODS)
  def test_no_gradient_flows(self, method):
    z, codebook = make_data(16, 10, 5)

    def loss(z, codebook):
      return jnp.sum(
        jnp.take(codebook, nearest_codes(z, codebook, method=method), 0)
      )

    z_gradient, gradient = jax.jit(jax.grad(loss, (0, 1)))(z, codebook)
    self.assertEqual(jnp.abs(z_gradient).max(), 0)
    self.assertEqual(gradient.sum(), 16 * 5)

  def test_half_precision_points_are_searched_in_float32(self):
    z, codebook = make_data(64, 300, 8)
    z = jnp.asarray(z, jnp.bfloat16)
    chex.assert_trees_all_equal(
      find(z, codebook, "auto"), find(z.astype("float32"), codebook, "auto")
    )

  @parameterized.parameters(1, 4, 64)
  def test_memory_stays_far_below_all_distances(self, dim):
    self.assertLess(temporary_memory(4096, 8192, dim), 4096 * 8192 * 4 // 4)

  @parameterized.parameters(*codebook_structures(65_536))
  @pytest.mark.slow  # to compile
  def test_memory_for_the_paper_structures(self, num_codewords, dim):
    self.assertLess(temporary_memory(8192, num_codewords, dim), 32 * 2**20)

  @parameterized.parameters((1_048_576, 1), (524_288, 2), (262_144, 4))
  @pytest.mark.slow
  def test_memory_for_large_codebooks(self, num_codewords, dim):
    self.assertLess(temporary_memory(8192, num_codewords, dim), 32 * 2**20)

  def test_bad_arguments_are_named(self):
    z, codebook = make_data(4, 10, 5)
    with self.assertRaisesRegex(ValueError, r"z has shape \(4, 3\).* 5"):
      nearest_codes(z[:, :3], codebook)
    with self.assertRaisesRegex(ValueError, "z has dtype int32"):
      nearest_codes(z.astype(np.int32), codebook)
    with self.assertRaisesRegex(ValueError, r"z has shape \(\)"):
      nearest_codes(np.float32(1), codebook)
    with self.assertRaisesRegex(ValueError, "codebook .*2 axes"):
      nearest_codes(z, codebook[0])
    with self.assertRaisesRegex(ValueError, "at least one codeword"):
      nearest_codes(z, codebook[:0])
    with self.assertRaisesRegex(ValueError, "method is 'fast'.*'blocked'"):
      nearest_codes(z, codebook, method="fast")
    with self.assertRaisesRegex(ValueError, "'sorted'.* width 1; .* width 5"):
      nearest_codes(z, codebook, method="sorted")
    with self.assertRaisesRegex(ValueError, "'cells'.* width 2 to 8; .* 1"):
      nearest_codes(z[:, :1], codebook[:, :1], method="cells")
    with self.assertRaisesRegex(ValueError, "'cells'.* width 2 to 8; .* 9"):
      nearest_codes(np.ones((4, 9)), np.ones((5, 9)), method="cells")
    for dim in (1, 2):
      index = index_codebook(codebook[:, :dim])
      with self.assertRaisesRegex(ValueError, rf"z has .*\(4, 5\).* {dim}"):
        nearest_codes(z, index)
      with self.assertRaisesRegex(ValueError, "method is 'fast'"):
        nearest_codes(z[:, :dim], index, method="fast")
    with self.assertRaisesRegex(ValueError, r"\(5, 9\).* width 1 to 8"):
      index_codebook(np.ones((5, 9)))
    with self.assertRaisesRegex(ValueError, "codebook .*2 axes"):
      index_codebook(codebook[0])
    with self.assertRaisesRegex(ValueError, "at least one codeword"):
      index_codebook(codebook[:0])
    with self.assertRaisesRegex(ValueError, "codebook has dtype int32"):
      index_codebook(codebook.astype(np.int32))
    with self.assertRaisesRegex(ValueError, "z is a list"):
      nearest_codes([[1.0]], codebook)


class PropertiesTest(parameterized.TestCase):
  @parameterized.parameters(*SHAPES)
  @hypothesis.settings(deadline=None, derandomize=True, max_examples=25)
  @hypothesis.given(
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 2**32 - 1),
    offset=st.just(0) | st.just(1000) | st.integers(-4096, 4096),
    scale=st.just(0) | st.integers(-20, 20),
  )
  def test_all_methods_keep_the_contract(
    self, num_points, num_codewords, dim, methods, kind, seed, offset, scale
  ):
    z, codebook = make_kind(kind, num_points, num_codewords, dim, seed)
    # A power of two keeps integers exact.
    z = (z + np.float32(offset)) * np.float32(2.0**scale)
    codebook = (codebook + np.float32(offset)) * np.float32(2.0**scale)
    for method in methods:
      hypothesis.note(method)
      check_codes(
        z, codebook, find(z, codebook, method), is_exact=kind == "integers"
      )

  @parameterized.product(dim=(1, 2), dtype=("float32", "bfloat16"))
  def test_an_index_finds_what_its_codebook_finds(self, dim, dtype):
    z, codebook = make_data(257, 1025, dim)
    codebook[7] = np.nan
    z, codebook = jnp.asarray(z, dtype), jnp.asarray(codebook, dtype)
    chex.assert_trees_all_equal(
      find(z, codebook, "index"), find(z, codebook, "dense")
    )
