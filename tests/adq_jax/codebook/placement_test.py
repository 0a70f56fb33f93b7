import functools
from unittest import mock

from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np

from adq_jax import codebook_from
from adq_jax import Placement
from adq_jax import VectorQuantizer
from adq_jax.codebook import kmeans
from adq_jax.codebook import placement
from adq_jax.codebook import state as codebooks
from adq_jax.codebook import statistics
from adq_jax.codebook import updates


def make_codebook(codebook_size=6, embedding_dim=3, initialized=True):
  return codebooks.init_codebook(
    jax.random.key(0), codebook_size, embedding_dim
  ).replace(initialized=jnp.array(initialized))


class PlacementTest(parameterized.TestCase):
  def test_initialization_draws_encodings_without_repeats(self):
    points = 10.0 * jax.random.normal(jax.random.key(1), (8, 3))
    state = placement.initialize_from_data(
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
    state = placement.initialize_from_data(
      jax.random.key(2), make_codebook(50, 2, initialized=False), points
    )
    self.assertLen(np.unique(np.asarray(state.embedding), axis=0), 50)
    distances = jnp.linalg.norm(state.embedding[:, None] - points, axis=-1)
    uses = np.bincount(np.asarray(distances.argmin(axis=1)), minlength=5)
    chex.assert_trees_all_equal(uses, np.full(5, 10))

  def test_happens_once(self):
    points = jax.random.normal(jax.random.key(1), (8, 3))
    state = make_codebook(initialized=True)
    after = placement.initialize_from_data(jax.random.key(2), state, points)
    chex.assert_trees_all_equal(after, state)

  def test_padding_is_never_drawn_and_an_empty_batch_waits(self):
    points = jnp.ones((8, 3)).at[4:].set(jnp.nan)
    mask = jnp.array([1.0] * 4 + [0.0] * 4)
    state = make_codebook(initialized=False)
    key = jax.random.key(2)
    waiting = placement.initialize_from_data(key, state, points, mask=0 * mask)
    chex.assert_trees_all_equal(waiting, state)
    none = placement.initialize_from_data(key, state, points[:0])
    chex.assert_trees_all_equal(none, state)
    placed = placement.initialize_from_data(key, state, points, mask=mask)
    chex.assert_trees_all_equal(placed.embedding, jnp.ones((6, 3)))
    self.assertTrue(placed.initialized)

  def test_revival_resets_embedding_count_and_sum_together(self):
    state = make_codebook().replace(
      cluster_size=jnp.array([4.0, 0.01, 1.0, 0.0, 0.99, 0.0])
    )
    points = 100.0 + jax.random.normal(jax.random.key(1), (8, 3))
    revived = placement.revive_dead_codes(
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
    state = placement.revive_dead_codes(jax.random.key(2), state, points, 0.1)
    placed = state.embedding[5]
    counts = jnp.zeros(6).at[5].set(1)
    sums = jnp.zeros((6, 3)).at[5].set(placed)
    after = updates.ema_update(state, counts, sums, 0.99)
    chex.assert_trees_all_close(after.embedding[5], placed, rtol=1e-6)

  def test_codewords_are_revived_in_the_first_updates_alone(self):
    quantizer = VectorQuantizer(
      4, 2, placement=Placement(revive_below=0.5, revive_updates=2)
    )
    z = jnp.full((8, 2), 3.0)
    # Nothing but training needs the count.
    alone = {"codebook": codebook_from(jnp.ones((4, 2))).to_collection()}
    self.assertEqual(quantizer.apply(alone, z, method="encode").shape, (8,))
    variables = quantizer.init(jax.random.key(0), z)
    self.assertEqual(variables["codebook"]["num_updates"], 0)
    revived = []
    for step in range(4):
      # Nobody is assigned to the first three.
      rare = codebook_from(
        jnp.array([[99.0, 99], [98, 99], [97, 99], [3, 3]]),
        jnp.array([1e-3, 1e-3, 1e-3, 8]),
      )
      state = rare.replace(num_updates=jnp.int32(step)).to_collection()
      _, after = quantizer.apply(
        {"codebook": state},
        z,
        train=True,
        mutable=["codebook"],
        rngs={"codebook": jax.random.key(step)},
      )
      self.assertEqual(after["codebook"]["num_updates"], step + 1)
      revived.append(bool((after["codebook"]["embedding"] < 50).all()))
    self.assertEqual(revived, [True, True, False, False])

  def test_nothing_is_dead_at_threshold_zero(self):
    state = make_codebook().replace(cluster_size=jnp.zeros(6))
    points = jnp.ones((8, 3))
    after = placement.revive_dead_codes(jax.random.key(0), state, points, 0.0)
    chex.assert_trees_all_equal(after, state)


@functools.partial(jax.jit, static_argnums=0)
def begin(init, state, points, is_real):
  batch = statistics.Batch(points, is_real)
  make_key = mock.Mock(return_value=jax.random.key(2))
  begun = Placement(init).before_search(make_key, state, batch)
  (reason,) = make_key.call_args.args
  assert reason == f"placement.init is '{init}', which"
  return begun


class KMeansTest(parameterized.TestCase):
  """Of 40 points and 8 codewords, so that one program is compiled."""

  def setUp(self):
    super().setUp()
    self.points = jax.random.normal(jax.random.key(1), (40, 2))
    self.is_real = jnp.arange(40) < 36
    self.state = make_codebook(8, 2, initialized=False)

  def error_of(self, state):
    points = self.points[self.is_real]
    squares = jnp.square(points[:, None] - state.embedding).sum(axis=-1)
    return squares.min(axis=1).mean()

  def test_is_nearer_to_the_points_than_a_start_on_data(self):
    arguments = self.state, self.points, self.is_real
    begun, data = begin("kmeans", *arguments), begin("data", *arguments)
    self.assertTrue(begun.initialized)
    self.assertLess(self.error_of(begun), 0.8 * self.error_of(data))
    batch = statistics.Batch(self.points, self.is_real)
    chex.assert_trees_all_close(begun, kmeans.refine(data, batch, 10))
    chex.assert_trees_all_close(begun.cluster_size.sum(), 8.0, rtol=1e-6)
    chex.assert_trees_all_equal(begin("kmeans", begun, *arguments[1:]), begun)

  def test_a_batch_without_a_real_point_waits(self):
    nothing = jnp.full_like(self.points, jnp.nan)
    for points, is_real in (
      (self.points, 0 * self.is_real),
      (nothing, self.is_real),
    ):
      waiting = begin("kmeans", self.state, points, is_real != 0)
      chex.assert_trees_all_equal(waiting, self.state)
    begun = begin("kmeans", waiting, self.points, self.is_real)
    self.assertTrue(begun.initialized)

  def test_codewords_outnumber_the_points(self):
    self.is_real = jnp.arange(40) < 5
    begun = begin("kmeans", self.state, self.points, self.is_real)
    chex.assert_tree_all_finite(begun)
    self.assertLen(np.unique(np.asarray(begun.embedding), axis=0), 8)
    self.assertLess(self.error_of(begun), 1e-10)
    # Those at no point are dead.
    chex.assert_trees_all_equal((begun.cluster_size > 0).sum(), 5)
    chex.assert_trees_all_close(begun.cluster_size.max(), 8 / 5, rtol=1e-6)

  def test_all_points_are_equal(self):
    points = jnp.full_like(self.points, 0.1)
    begun = begin("kmeans", self.state, points, self.is_real)
    chex.assert_trees_all_close(begun.embedding, points[:8], rtol=1e-6)
    chex.assert_trees_all_equal(begun.cluster_size, jnp.zeros(8).at[0].set(8.0))

  @parameterized.parameters(0, 1.5)
  def test_a_number_that_does_not_fit_is_named(self, number):
    wanted = f"^kmeans_iterations is {number}; it must be an integer of at lea"
    with self.assertRaisesRegex(ValueError, wanted):
      Placement("kmeans", kmeans_iterations=number).check()


class PartsTest(parameterized.TestCase):
  """Many points are taken part by part; parts of 16 numbers stand for them."""

  @parameterized.parameters("initialize", "revive")
  def test_placing(self, what):
    points = jax.random.normal(jax.random.key(1), (37, 3)).at[3].set(np.nan)
    mask = jnp.ones(37).at[10:20].set(0)

    def place():
      state = make_codebook(initialized=what == "revive")
      key = jax.random.key(2)
      if what == "revive":
        return placement.revive_dead_codes(key, state, points, 2.0, mask=mask)
      return placement.initialize_from_data(key, state, points, mask=mask)

    expected = place()
    with mock.patch.object(statistics, "_PART_NUMBERS", 16):
      found = place()
    chex.assert_tree_all_finite(found)
    chex.assert_trees_all_close(found, expected, rtol=1e-6)

  @parameterized.parameters((512, 128), (65_536, 1))
  def test_memory_beside_the_arguments_is_at_most_a_gibibyte(self, size, dim):
    num_points = 2**22
    points = jax.ShapeDtypeStruct((num_points, dim), jnp.float32)
    mask = jax.ShapeDtypeStruct((num_points,), jnp.bool_)
    key = jax.eval_shape(lambda: jax.random.key(0))
    state = jax.eval_shape(
      lambda key: codebooks.init_codebook(key, size, dim), key
    )

    def place(key, state, points, mask):
      return placement.revive_dead_codes(key, state, points, 0.5, mask=mask)

    compiled = jax.jit(place).lower(key, state, points, mask).compile()
    self.assertLess(compiled.memory_analysis().temp_size_in_bytes, 2**30)
