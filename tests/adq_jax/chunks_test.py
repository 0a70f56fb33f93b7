from absl.testing import parameterized
import chex
import jax
from jax import export
import jax.numpy as jnp
import numpy as np

from adq_jax import chunks
from adq_jax.chunks import for_each_chunk


class ForEachChunkTest(parameterized.TestCase):
  @parameterized.product(
    places=((), (0,), (3, 4, 9), tuple(range(10))), size=(1, 3, 10, 16)
  )
  def test_every_place_once(self, places, size):
    where = jnp.zeros(10, bool).at[np.array(places, int)].set(True)

    def visit(carry, which):
      visits, calls = carry
      self.assertEqual(which.shape, (size,))
      return visits.at[which].add(1, mode="drop"), calls + 1

    visits, calls = jax.jit(
      lambda where: for_each_chunk(
        where, (jnp.zeros(10, int), jnp.int32(0)), visit, size
      )
    )(where)
    np.testing.assert_array_equal(visits, where.astype(int))
    self.assertEqual(calls, -(-len(places) // size))


class ChunksTest(parameterized.TestCase):
  @parameterized.product(length=(1, 6, 7, 8, 12, 13), size=(1, 3, 6, 7, 20))
  def test_every_point_once_in_order(self, length, size):
    x, y = np.arange(length), np.arange(2 * length).reshape(length, 2)
    sizes = set()

    def function(arrays):
      x, y = arrays
      sizes.add(len(x))
      return {"sum": x + y.sum(axis=1), "row": y}

    found = chunks.map_chunks(function, (jnp.array(x), jnp.array(y)), size)
    chex.assert_trees_all_equal(found, {"sum": x + y.sum(axis=1), "row": y})
    self.assertLessEqual(max(sizes), size if length > size else length)

    total = chunks.sum_chunks(
      lambda arrays: arrays[1].sum(axis=0), (jnp.array(x), jnp.array(y)), size
    )
    chex.assert_trees_all_equal(total, y.sum(axis=0))

  @parameterized.parameters(1, 256, 257, 600)
  def test_a_symbolic_number_of_points(self, length):
    sizes = set()

    def function(arrays):
      x, y = arrays
      sizes.add(len(x))
      return {"sum": x + y.sum(axis=1), "row": y}

    exported = export.export(
      jax.jit(lambda *arrays: chunks.map_chunks(function, arrays, 1000))
    )(
      *export.symbolic_args_specs(
        (jnp.zeros(1), jnp.zeros((1, 2))), ("t", "t, 2")
      )
    )
    x = jnp.arange(float(length))
    y = jnp.arange(2.0 * length).reshape(length, 2)
    expected = {"sum": x + y.sum(axis=1), "row": y}
    chex.assert_trees_all_equal(exported.call(x, y), expected)
    self.assertEqual(sizes, {256})

  def test_a_sum_needs_to_know_how_many(self):
    (length,) = export.symbolic_shape("t")
    x = jax.ShapeDtypeStruct((length,), jnp.float32)
    with self.assertRaisesRegex(
      ValueError, "there are t points, a symbolic number"
    ):
      jax.eval_shape(lambda x: chunks.sum_chunks(jnp.sum, x, 4), x)

  def test_few_points_are_not_cut(self):
    x = jnp.ones((5, 2))
    self.assertIs(chunks.map_chunks(lambda x: x, x, 5), x)
    self.assertIs(chunks.sum_chunks(lambda x: x, x, 5), x)
