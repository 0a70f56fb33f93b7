import functools

from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adq_jax.codebook import kmeans
from adq_jax.codebook.shards import merge_codebook
from adq_jax.codebook.shards import split_codebook
from adq_jax.codebook.state import codebook_from
from adq_jax.codebook.statistics import Batch
from tests.support.small import bits

CENTRES = np.array([[0, 0], [30, 0], [0, 30], [30, 30], [60, 60]], np.float32)


@functools.partial(jax.jit, static_argnums=3)
def lloyd(codewords, points, is_real, num_iterations):
  return kmeans.lloyd(codewords, Batch(points, is_real), num_iterations)


def lloyd_in_float64(codewords, points, num_iterations):
  codewords, points = np.float64(codewords), np.float64(points)
  for _ in range(num_iterations):
    codes = assign(codewords, points)
    for n in range(len(codewords)):
      if (codes == n).any():
        codewords[n] = points[codes == n].mean(axis=0)
  return codewords, np.bincount(codes, minlength=len(codewords))


def assign(codewords, points):
  squares = np.square(points[:, None] - codewords[None]).sum(axis=-1)
  return squares.argmin(axis=1)


def error(codewords, points):
  codewords, points = np.float64(codewords), np.float64(points)
  return np.square(points - codewords[assign(codewords, points)]).mean()


def clusters():
  """Forty points around each centre, float32 `[200, 2]`."""
  rng = np.random.default_rng(0)
  points = CENTRES[:, None] + rng.normal(size=(5, 40, 2))
  return rng.permutation(points.reshape(-1, 2)).astype(np.float32)


class LloydTest(parameterized.TestCase):
  def test_by_hand(self):
    points = jnp.array([[0.0], [1], [9], [11]])
    first = jnp.array([[0.0], [9], [100]])
    for num_iterations in (1, 3):  # from there on it is stable
      found = lloyd(first, points, jnp.ones(4, bool), num_iterations)
      # No point is near to the last, which stays.
      expected = jnp.array([[0.5], [10], [100]]), jnp.array([2.0, 2, 0])
      chex.assert_trees_all_equal(found, expected)

  def test_is_that_of_float64(self):
    points = np.random.default_rng(1).normal(size=(200, 2)).astype(np.float32)
    found = lloyd(points[:12], points, np.ones(200, bool), 6)
    expected = lloyd_in_float64(points[:12], points, 6)
    chex.assert_trees_all_close(found, expected, rtol=1e-5, atol=1e-6)

  def test_finds_clusters_that_lie_apart(self):
    points = clusters()
    of_clusters = assign(CENTRES, points)
    means = np.stack([points[of_clusters == n].mean(axis=0) for n in range(5)])
    first = CENTRES + np.array([8, -5], np.float32)
    found, counts = lloyd(first, points, np.ones(200, bool), 6)
    chex.assert_trees_all_close(found, means, rtol=1e-5, atol=1e-5)
    chex.assert_trees_all_equal(counts, jnp.full(5, 40.0))

  def test_two_codewords_of_one_cluster_part(self):
    points = clusters()
    points = points[assign(CENTRES, points) < 2]
    (first,) = np.nonzero(assign(CENTRES, points) == 0)
    found, counts = lloyd(points[first[:2]], points, np.ones(80, bool), 6)
    chex.assert_trees_all_equal(counts, jnp.full(2, 40.0))
    order = np.argsort(found[:, 0])
    chex.assert_trees_all_close(found[order], CENTRES[:2], atol=0.5)

  def test_the_error_never_rises(self):
    points = np.random.default_rng(2).normal(size=(200, 2)).astype(np.float32)
    step = functools.partial(
      lloyd, points=points, is_real=np.ones(200, bool), num_iterations=1
    )
    codewords, errors = points[:12], [error(points[:12], points)]
    for _ in range(8):
      codewords, _ = step(codewords)
      errors.append(error(codewords, points))
    self.assertLess(np.diff(errors).max(), 1e-7)
    self.assertLess(errors[-1], 0.8 * errors[0])
    # Several at once are the same.
    at_once, _ = lloyd(points[:12], points, np.ones(200, bool), 8)
    chex.assert_trees_all_close(at_once, codewords, rtol=1e-6)

  def test_points_that_do_not_count_are_not_seen(self):
    points = clusters()
    is_real = np.arange(200) < 150
    points[150:] = 1e6
    points[20], points[21] = np.nan, np.inf  # their masks say nothing of it
    rest = np.concatenate([points[:20], points[22:150]])
    found = lloyd(CENTRES, points, is_real, 3)
    expected = lloyd_in_float64(CENTRES, rest, 3)
    chex.assert_trees_all_close(found, expected, rtol=1e-5)


class RefineTest(parameterized.TestCase):
  def test_a_state_says_how_often_codewords_are_used(self):
    state = codebook_from(jnp.array([[0.0], [9], [100], [200]]), 0.5)
    points = jnp.array([[0.0], [1], [9], [-1]])
    after = kmeans.refine(state, Batch(points, jnp.ones(4, bool)), 2)
    codewords = jnp.array([0.0, 9, 100, 200])
    sizes = jnp.array([1.5, 0.5, 0, 0])
    chex.assert_trees_all_equal(after.cluster_size, sizes)
    chex.assert_trees_all_equal(after.embedding, codewords[:, None])
    chex.assert_trees_all_equal(
      after.embedding_sum, (sizes * codewords)[:, None]
    )


@pytest.mark.usefixtures("without_kept_programs")
class DevicesTest(parameterized.TestCase):
  @parameterized.parameters(False, True)
  def test_eight_devices_do_as_one(self, is_sharded):
    points = np.random.default_rng(3).normal(size=(80, 3)).astype(np.float32)
    points[5] = np.nan
    is_real = np.arange(80) < 57  # unevenly over devices
    state = codebook_from(points[10:26])

    def refine(state, points, is_real, axis_name=None):
      shard_axis = axis_name if is_sharded else None
      batch = Batch(points, is_real, axis_name, shard_axis)
      return kmeans.refine(state, batch, 4)

    expected = jax.jit(refine)(state, points, is_real)
    many = jax.pmap(
      functools.partial(refine, axis_name="devices"),
      "devices",
      in_axes=(0 if is_sharded else None, 0, 0),
    )
    states = many(
      split_codebook(state, 8) if is_sharded else state,
      points.reshape(8, 10, 3),
      is_real.reshape(8, 10),
    )
    if is_sharded:
      merged = merge_codebook(states)
      chex.assert_trees_all_equal(
        jax.tree.map(bits, merged), jax.tree.map(bits, expected)
      )
      return
    first = jax.tree.map(lambda x: x[0], states)
    chex.assert_trees_all_close(first, expected, rtol=1e-5, atol=1e-6)
    chex.assert_trees_all_equal(first.cluster_size, expected.cluster_size)
    for device in range(1, 8):
      chex.assert_trees_all_equal(
        jax.tree.map(lambda x, i=device: x[i], states), first
      )


class MemoryTest(parameterized.TestCase):
  def test_beside_the_arguments_it_is_at_most_a_gibibyte(self):
    num_points, size, dim = 2**22, 512, 128
    compiled = lloyd.lower(
      jax.ShapeDtypeStruct((size, dim), jnp.float32),
      jax.ShapeDtypeStruct((num_points, dim), jnp.float32),
      jax.ShapeDtypeStruct((num_points,), jnp.bool_),
      10,
    ).compile()
    temporary = compiled.memory_analysis().temp_size_in_bytes
    self.assertLess(temporary, 2**30)
