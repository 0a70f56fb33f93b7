from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np

from adq_jax import VectorQuantizer
from adq_jax.codebook import statistics
from adq_jax.codebook import updates
from adq_jax.codebook.state import init_codebook


class EmaTest(parameterized.TestCase):
  def test_update_equals_a_numpy_loop(self):
    rng = np.random.default_rng(0)
    state = init_codebook(jax.random.key(0), 6, 3)
    decay = 0.9
    embedding = np.asarray(state.embedding, np.float64)
    size, total = np.ones(6), embedding.copy()
    for _ in range(5):
      points = rng.normal(size=(7, 3)).astype(np.float32)
      codes = rng.integers(0, 5, 7)  # codeword 5 is never chosen
      state = updates.ema_update(
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
    start = init_codebook(jax.random.key(0), 6, 3)
    counts = jnp.array([3.0, 0, 1, 0, 2, 0])
    sums = jnp.ones((6, 3)) * counts[:, None]

    def step(_, state):
      return updates.ema_update(state, counts, sums, 0.99)

    end = jax.jit(lambda s: jax.lax.fori_loop(0, 1000, step, s))(start)
    chex.assert_trees_all_equal(end.embedding[1::2], start.embedding[1::2])
    self.assertTrue(jnp.isfinite(end.embedding).all())
    # Long after, being chosen once is enough to move.
    moved = updates.ema_update(end, jnp.ones(6), jnp.full((6, 3), 5.0), 0.99)
    chex.assert_trees_all_close(moved.embedding[1], jnp.full(3, 5.0), rtol=0.1)


class SmoothedEmaTest(parameterized.TestCase):
  def test_five_steps_in_numpy(self):
    state = updates.init_smoothed_codebook(jax.random.key(0), 5, 2)
    np.testing.assert_array_equal(state.cluster_size, np.zeros(5))
    size = np.zeros(5)
    total = np.asarray(state.embedding_sum, np.float64)
    rng = np.random.default_rng(0)
    for _ in range(5):
      points = rng.normal(size=(9, 2)).astype(np.float32)
      codes = rng.integers(0, 4, 9)  # codeword 4 is never chosen
      state = updates.smoothed_ema_update(
        state,
        statistics.code_counts(jnp.array(codes), 5),
        statistics.code_sums(jnp.array(points), jnp.array(codes), 5),
        0.99,
      )
      size = 0.99 * size + 0.01 * np.bincount(codes, minlength=5)
      n = size.sum()
      size = (size + 1e-5) / (n + 5 * 1e-5) * n
      sums = np.zeros((5, 2))
      np.add.at(sums, codes, points)
      total = 0.99 * total + 0.01 * sums
      chex.assert_trees_all_close(
        (state.embedding, state.cluster_size, state.embedding_sum),
        (total / size[:, None], size, total),
        rtol=1e-4,
      )

  def test_the_first_step_throws_unused_codewords_far_out(self):
    z = jax.random.normal(jax.random.key(2), (64, 2))
    quantizer = VectorQuantizer(64, 2, update="smoothed_ema")
    variables = quantizer.init(jax.random.key(0), z)
    result, state = quantizer.apply(
      variables, z, train=True, mutable=["codebook"]
    )
    norms = np.linalg.norm(state["codebook"]["embedding"], axis=1)
    is_used = np.bincount(result.codes, minlength=64) > 0
    self.assertGreater(np.median(norms[~is_used]), 1e4)
    self.assertLess(np.median(norms[is_used]), 1e3)
