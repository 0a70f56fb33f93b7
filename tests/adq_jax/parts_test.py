from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

from adq_jax.parts import for_each_part


class ForEachPartTest(parameterized.TestCase):
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
      lambda where: for_each_part(
        where, (jnp.zeros(10, int), jnp.int32(0)), visit, size
      )
    )(where)
    np.testing.assert_array_equal(visits, where.astype(int))
    self.assertEqual(calls, -(-len(places) // size))
