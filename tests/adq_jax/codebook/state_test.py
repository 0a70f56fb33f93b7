from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np

from adq_jax import VectorQuantizer
from adq_jax.codebook import state as codebooks


def make_codebook(codebook_size=6, embedding_dim=3):
  return codebooks.init_codebook(
    jax.random.key(0), codebook_size, embedding_dim
  )


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
