from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np

from adq_jax import VectorQuantizer
from adq_jax.codebook import state as codebooks
from adq_jax.codebook import statistics


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
        statistics.code_counts(jnp.array(codes), 6),
        statistics.code_sums(jnp.array(points), jnp.array(codes), 6),
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
