from unittest import mock

from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np

from adq_jax import codebook as codebooks
from adq_jax import VectorQuantizer


def make_codebook(codebook_size=6, embedding_dim=3, initialized=True):
  return codebooks.init_codebook(
    jax.random.key(0), codebook_size, embedding_dim, initialized=initialized
  )


class StructuresTest(parameterized.TestCase):
  def test_the_papers_pool(self):
    self.assertEqual(
      codebooks.codebook_structures(65536),
      (
        (512, 128),
        (1024, 64),
        (2048, 32),
        (4096, 16),
        (8192, 8),
        (16384, 4),
        (32768, 2),
        (65536, 1),
      ),
    )

  @parameterized.parameters((4096, 32), (8192, 64), (32768, 128), (2, 1))
  def test_codewords_outnumber_their_width(self, capacity, widest):
    pool = codebooks.codebook_structures(capacity)
    self.assertEqual(pool[0], (capacity // widest, widest))
    for codebook_size, embedding_dim in pool:
      self.assertEqual(codebook_size * embedding_dim, capacity)
      self.assertGreater(codebook_size, embedding_dim)

  @parameterized.parameters(0, 1, -5, 32786)
  def test_impossible_capacity(self, capacity):
    with self.assertRaisesRegex(ValueError, f"capacity is {capacity}"):
      codebooks.codebook_structures(capacity)


class StatisticsTest(parameterized.TestCase):
  def test_counts_and_sums_leave_padding_out(self):
    points = jnp.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [np.nan, 7.0]])
    codes = jnp.array([2, 0, 2, 1])
    mask = jnp.array([1.0, 1.0, 1.0, 0.0])
    chex.assert_trees_all_equal(
      codebooks.code_counts(codes, 4, mask=mask), jnp.array([1.0, 0, 2, 0])
    )
    chex.assert_trees_all_equal(
      codebooks.code_sums(points, codes, 4, mask=mask),
      jnp.array([[3.0, 4], [0, 0], [6, 8], [0, 0]]),
    )

  @parameterized.parameters((0, 5, 3), (1, 1, 1), (7, 3, 2), (300, 40, 4))
  def test_sums_in_a_fixed_order(self, num_points, codebook_size, dim):
    rng = np.random.default_rng(0)
    points = rng.normal(size=(num_points, dim)).astype(np.float32)
    codes = rng.integers(0, max(codebook_size - 1, 1), num_points)
    expected = np.zeros((codebook_size, dim))
    np.add.at(expected, codes, points.astype(np.float64))
    sums = codebooks._sorted_sums(
      jnp.asarray(points), jnp.asarray(codes, jnp.int32), codebook_size
    )
    chex.assert_shape(sums, (codebook_size, dim))
    np.testing.assert_allclose(sums, expected, rtol=1e-5, atol=1e-5)


class EmaTest(parameterized.TestCase):
  def test_update_equals_a_numpy_loop(self):
    rng = np.random.default_rng(0)
    state = make_codebook()
    decay = 0.9
    embedding = np.asarray(state.embedding, np.float64)
    size, total = np.ones(6), embedding.copy()
    for _ in range(5):
      points = rng.normal(size=(7, 3)).astype(np.float32)
      codes = rng.integers(0, 5, 7)  # codeword 5 is never chosen
      state = codebooks.ema_update(
        state,
        codebooks.code_counts(jnp.array(codes), 6),
        codebooks.code_sums(jnp.array(points), jnp.array(codes), 6),
        decay,
      )
      for n in range(6):
        chosen = points[codes == n].astype(np.float64)
        size[n] = decay * size[n] + (1 - decay) * len(chosen)
        total[n] = decay * total[n] + (1 - decay) * chosen.sum(axis=0)
        if len(chosen):
          embedding[n] = total[n] / size[n]
      chex.assert_trees_all_close(
        (state.embedding, state.cluster_size, state.embedding_sum),
        (embedding, size, total),
        rtol=1e-5,
        atol=1e-6,
      )

  def test_a_codeword_nobody_chose_keeps_its_bits_for_1000_steps(self):
    start = make_codebook()
    counts = jnp.array([3.0, 0, 1, 0, 2, 0])
    sums = jnp.ones((6, 3)) * counts[:, None]

    def step(_, state):
      return codebooks.ema_update(state, counts, sums, 0.99)

    end = jax.jit(lambda s: jax.lax.fori_loop(0, 1000, step, s))(start)
    chex.assert_trees_all_equal(end.embedding[1::2], start.embedding[1::2])
    self.assertTrue(jnp.isfinite(end.embedding).all())
    # Long after, being chosen once is enough to move.
    moved = codebooks.ema_update(end, jnp.ones(6), jnp.full((6, 3), 5.0), 0.99)
    chex.assert_trees_all_close(moved.embedding[1], jnp.full(3, 5.0), rtol=0.1)


class PlacementTest(parameterized.TestCase):
  def test_initialization_draws_encodings_without_repeats(self):
    points = 10.0 * jax.random.normal(jax.random.key(1), (8, 3))
    state = codebooks.initialize_from_data(
      jax.random.key(2), make_codebook(initialized=False), points
    )
    distances = jnp.linalg.norm(state.embedding[:, None] - points, axis=-1)
    self.assertLess(distances.min(axis=1).max(), 2.0)  # noise: 1% of about 10
    self.assertGreater(distances.min(axis=1).min(), 0.0)
    self.assertLen(set(np.asarray(distances.argmin(axis=1)).tolist()), 6)
    chex.assert_trees_all_equal(state.cluster_size, jnp.ones(6))
    chex.assert_trees_all_equal(state.embedding_sum, state.embedding)
    self.assertTrue(state.initialized)

  def test_no_two_codewords_are_equal_where_they_outnumber_the_points(self):
    points = jax.random.normal(jax.random.key(1), (5, 2))
    state = codebooks.initialize_from_data(
      jax.random.key(2), make_codebook(50, 2, initialized=False), points
    )
    self.assertLen(np.unique(np.asarray(state.embedding), axis=0), 50)
    distances = jnp.linalg.norm(state.embedding[:, None] - points, axis=-1)
    uses = np.bincount(np.asarray(distances.argmin(axis=1)), minlength=5)
    chex.assert_trees_all_equal(uses, np.full(5, 10))

  def test_noise_is_one_percent_of_the_standard_deviation(self):
    points = jnp.tile(jnp.array([[0.0, 0.0], [2.0, 200.0]]), (50, 1))
    state = codebooks.initialize_from_data(
      jax.random.key(0), make_codebook(5000, 2, initialized=False), points
    )
    nearest = jnp.where(state.embedding[:, :1] > 1, points[1], points[0])
    noise = np.asarray(state.embedding - nearest).std(axis=0)
    chex.assert_trees_all_close(noise, np.array([0.01, 1.0]), rtol=0.05)

  def test_happens_once(self):
    points = jax.random.normal(jax.random.key(1), (8, 3))
    state = make_codebook(initialized=True)
    after = codebooks.initialize_from_data(jax.random.key(2), state, points)
    chex.assert_trees_all_equal(after, state)

  def test_padding_is_never_drawn_and_an_empty_batch_waits(self):
    points = jnp.ones((8, 3)).at[4:].set(jnp.nan)
    mask = jnp.array([1.0] * 4 + [0.0] * 4)
    state = make_codebook(initialized=False)
    key = jax.random.key(2)
    waiting = codebooks.initialize_from_data(key, state, points, mask=0 * mask)
    chex.assert_trees_all_equal(waiting, state)
    none = codebooks.initialize_from_data(key, state, points[:0])
    chex.assert_trees_all_equal(none, state)
    placed = codebooks.initialize_from_data(key, state, points, mask=mask)
    chex.assert_trees_all_equal(placed.embedding, jnp.ones((6, 3)))
    self.assertTrue(placed.initialized)

  def test_revival_resets_embedding_count_and_sum_together(self):
    state = make_codebook().replace(
      cluster_size=jnp.array([4.0, 0.01, 1.0, 0.0, 0.99, 0.0])
    )
    points = 100.0 + jax.random.normal(jax.random.key(1), (8, 3))
    revived = codebooks.revive_dead_codes(
      jax.random.key(2), state, points, threshold=0.1
    )
    dead, alive = np.array([1, 3, 5]), np.array([0, 2, 4])
    for field in ("embedding", "cluster_size", "embedding_sum"):
      chex.assert_trees_all_equal(
        getattr(revived, field)[alive], getattr(state, field)[alive]
      )
    self.assertTrue((revived.embedding[dead] > 90).all())
    chex.assert_trees_all_close(revived.cluster_size[dead], jnp.ones(3))
    chex.assert_trees_all_close(
      revived.embedding_sum[dead],
      revived.embedding[dead] * revived.cluster_size[dead][:, None],
    )

  def test_a_revived_codeword_survives_the_next_update(self):
    state = make_codebook().replace(
      cluster_size=jnp.array([9.0, 9, 9, 9, 9, 0])
    )
    points = 100.0 + jax.random.normal(jax.random.key(1), (8, 3))
    state = codebooks.revive_dead_codes(jax.random.key(2), state, points, 0.1)
    placed = state.embedding[5]
    counts = jnp.zeros(6).at[5].set(1)
    sums = jnp.zeros((6, 3)).at[5].set(placed)
    after = codebooks.ema_update(state, counts, sums, 0.99)
    chex.assert_trees_all_close(after.embedding[5], placed, rtol=1e-6)

  def test_nothing_is_dead_at_threshold_zero(self):
    state = make_codebook().replace(cluster_size=jnp.zeros(6))
    points = jnp.ones((8, 3))
    after = codebooks.revive_dead_codes(jax.random.key(0), state, points, 0.0)
    chex.assert_trees_all_equal(after, state)


INTEGERS = (
  "int8 int16 int32 int64 uint8 uint16 uint32 uint64 int4 uint4".split()
)


class IndicesTest(parameterized.TestCase):
  @parameterized.product(
    dtype=INTEGERS, codebook_size=(1, 7, 127, 128, 255, 256, 257, 65_536)
  )
  def test_codes_of_any_dtype(self, dtype, codebook_size):
    info = jnp.iinfo(dtype)
    wanted = [-(2**32), -256, -1, 0, 1, 6, 7, 15, 127, 128, 255, 256, 257]
    wanted += [65_535, 65_536, 2**31 - 1, 2**31, 2**32, 2**32 + 1, 2**63]
    codes = [code for code in wanted if info.min <= code <= info.max]
    expected = [
      code if 0 <= code < codebook_size else codebook_size for code in codes
    ]
    given = np.array(codes, jnp.dtype(dtype))
    # NumPy's of 64 bits lose their upper half on the way to JAX.
    with self.subTest("NumPy"):
      np.testing.assert_array_equal(
        codebooks.to_indices(given, codebook_size), expected
      )
    with self.subTest("JAX"), jax.enable_x64(info.bits == 64):
      for function in (codebooks.to_indices, jitted_indices):
        found = function(jnp.asarray(given), codebook_size)
        chex.assert_type(found, jnp.int32)
        np.testing.assert_array_equal(found, expected)

  @parameterized.parameters("uint8", "int8", "int64", "uint32")
  def test_counting_is_of_those_in_range(self, dtype):
    codes = np.array([0, 1, 1, 127]).astype(dtype)
    counts = codebooks.code_counts(codes, 256)
    np.testing.assert_array_equal(np.flatnonzero(counts), [0, 1, 127])
    self.assertEqual(counts[1], 2)
    np.testing.assert_array_equal(
      codebooks.code_counts(np.array([-1, 3, 2, 2**32], np.int64), 3), [0, 0, 1]
    )

  def test_counts_go_beyond_what_float32_counts_by_ones(self):
    codes = np.zeros(2**24 + 6, np.uint8)
    self.assertEqual(codebooks.code_counts(codes, 2)[0], 2**24 + 6)


jitted_indices = jax.jit(codebooks.to_indices, static_argnums=1)


class CodebookFromTest(parameterized.TestCase):
  @parameterized.parameters(1.0, 50.0)
  def test_codewords_from_elsewhere_stay(self, cluster_size):
    rng = np.random.default_rng(0)
    embedding = rng.normal(size=(10, 3)) * 20
    quantizer = VectorQuantizer(10, 3, decay=0.9)
    state = codebooks.codebook_from(embedding, cluster_size)
    points = np.float32(embedding[[1, 1, 4]] + 0.5)
    _, after = quantizer.apply(
      {"codebook": state.to_collection()},
      points,
      train=True,
      mutable=["codebook"],
    )
    after = jax.tree.map(np.asarray, after["codebook"])
    expected = np.float32(embedding)
    # g (size e) + (1 - g) (sum of points), over g size + (1 - g) count.
    for code, count in ((1, 2), (4, 1)):
      size = 0.9 * cluster_size + 0.1 * count
      expected[code] += 0.1 * count * 0.5 / size
    np.testing.assert_allclose(after["embedding"], expected, rtol=1e-5)
    unchosen = [i for i in range(10) if i not in (1, 4)]
    np.testing.assert_array_equal(
      after["embedding"][unchosen], np.float32(embedding)[unchosen]
    )

  def test_its_collection_is_that_of_init(self):
    for update in ("ema", "smoothed_ema"):
      quantizer = VectorQuantizer(10, 3, update=update)
      collection = quantizer.init(jax.random.key(0), jnp.ones((1, 3)))
      state = codebooks.codebook_from(jnp.ones((10, 3)), np.arange(1, 11))
      chex.assert_trees_all_equal_shapes_and_dtypes(
        state.to_collection(), collection["codebook"]
      )
      self.assertTrue(state.initialized)

  def test_it_may_be_donated(self):
    state = codebooks.codebook_from(jnp.ones((10, 3)))
    moved = jax.jit(
      lambda state: jax.tree.map(lambda x: x, state), donate_argnums=0
    )(state)
    chex.assert_trees_all_equal(moved.embedding, jnp.ones((10, 3)))

  @parameterized.parameters(
    (np.ones(3), 1.0, "embedding has shape .* 2 axes"),
    (np.ones((3, 2), int), 1.0, "embedding has dtype int"),
    (np.array([[1.0], [np.nan]]), 1.0, "embedding has the value nan"),
    (np.ones((3, 2)), 0.0, "cluster_size has the value 0.0.*positive"),
    (np.ones((3, 2)), np.ones(2), r"cluster_size has shape \(2,\)"),
    ([[1.0]], 1.0, "embedding is a list"),
  )
  def test_errors(self, embedding, cluster_size, message):
    with self.assertRaisesRegex(ValueError, message):
      codebooks.codebook_from(embedding, cluster_size)


class FreezeTest(parameterized.TestCase):
  @parameterized.parameters("ema", "smoothed_ema", "gradient", "revived")
  def test_frozen_codewords_keep_their_bits_and_others_learn(self, update):
    fields = {"update": update}
    if update == "revived":
      fields = {"revive_below": 10.0}  # all of them, at every step
    quantizer = VectorQuantizer(10, 3, **fields)
    z = jax.random.normal(jax.random.key(1), (50, 3))
    variables = quantizer.init(jax.random.key(0), z)
    is_frozen = np.arange(10) % 2 == 0
    before = variables["codebook"]
    _, updated = quantizer.apply(
      variables,
      z,
      train=True,
      mutable=["codebook"],
      rngs={"codebook": jax.random.key(2)},
    )
    frozen = jax.jit(codebooks.freeze_codewords)(
      before, updated["codebook"], is_frozen
    )
    for name, value in frozen.items():
      if np.ndim(value):
        chex.assert_trees_all_equal(value[::2], before[name][::2])
        chex.assert_trees_all_equal(
          value[1::2], updated["codebook"][name][1::2]
        )
        self.assertFalse((value[1::2] == before[name][1::2]).all())
    chex.assert_trees_all_equal_shapes_and_dtypes(frozen, before)

  def test_errors(self):
    state = make_codebook()
    with self.assertRaisesRegex(ValueError, r"is_frozen has shape \(3,\).*6"):
      codebooks.freeze_codewords(state, state, jnp.ones(3, bool))
    with self.assertRaisesRegex(ValueError, "is_frozen has the value 2"):
      codebooks.freeze_codewords(state, state, jnp.full(6, 2))


class PartsTest(parameterized.TestCase):
  """Many points are taken part by part; parts of 16 numbers stand for them."""

  def test_sums_and_counts(self):
    rng = np.random.default_rng(0)
    points = rng.integers(-9, 9, (37, 3)).astype(np.float32)  # exact sums
    points[5] = np.nan
    codes, mask = rng.integers(0, 6, 37), rng.integers(0, 2, 37)
    expected = (
      codebooks.code_sums(jnp.array(points), jnp.array(codes), 6, mask=mask),
      codebooks.code_counts(codes, 6, mask=mask),
    )
    with mock.patch.object(codebooks, "_PART_NUMBERS", 16):
      found = (
        codebooks.code_sums(jnp.array(points), jnp.array(codes), 6, mask=mask),
        codebooks.code_counts(codes, 6, mask=mask),
      )
    chex.assert_trees_all_equal(found, expected)

  @parameterized.parameters("initialize", "revive")
  def test_placing(self, what):
    points = jax.random.normal(jax.random.key(1), (37, 3)).at[3].set(np.nan)
    mask = jnp.ones(37).at[10:20].set(0)

    def place():
      state = make_codebook(initialized=what == "revive")
      key = jax.random.key(2)
      if what == "revive":
        return codebooks.revive_dead_codes(key, state, points, 2.0, mask=mask)
      return codebooks.initialize_from_data(key, state, points, mask=mask)

    expected = place()
    with mock.patch.object(codebooks, "_PART_NUMBERS", 16):
      found = place()
    chex.assert_tree_all_finite(found)
    chex.assert_trees_all_close(found, expected, rtol=1e-6)

  @parameterized.parameters((512, 128), (65_536, 1))
  def test_memory_beside_the_arguments_is_at_most_a_gibibyte(self, size, dim):
    num_points = 2**22
    points = jax.ShapeDtypeStruct((num_points, dim), jnp.float32)
    codes = jax.ShapeDtypeStruct((num_points,), jnp.int32)
    mask = jax.ShapeDtypeStruct((num_points,), jnp.bool_)
    key = jax.eval_shape(lambda: jax.random.key(0))
    state = jax.eval_shape(
      lambda key: codebooks.init_codebook(key, size, dim), key
    )

    def statistics(points, codes, mask):
      return (
        codebooks.code_sums(points, codes, size, mask=mask),
        codebooks.code_counts(codes, size, mask=mask),
      )

    def place(key, state, points, mask):
      return codebooks.revive_dead_codes(key, state, points, 0.5, mask=mask)

    for function, arguments in (
      (statistics, (points, codes, mask)),
      (place, (key, state, points, mask)),
    ):
      analysis = jax.jit(function).lower(*arguments).compile().memory_analysis()
      self.assertLess(analysis.temp_size_in_bytes, 2**30)
