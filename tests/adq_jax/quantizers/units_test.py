from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np

from adq_jax.quantizers import units


class OrderTest(parameterized.TestCase):
  @parameterized.parameters((2, 3, 5, 6), (3, 5, 6), (2, 2, 3, 5, 6))
  def test_channels_are_neighbours_in_the_memory_of_bchw(self, *shape):
    z = jax.random.normal(jax.random.key(0), shape)
    found = units.to_units(z, "channels")
    chex.assert_shape(found, shape)
    memory = np.moveaxis(np.asarray(z), -1, -3).reshape(-1)
    np.testing.assert_array_equal(found.reshape(-1), memory)
    chex.assert_trees_all_equal(units.from_units(found, "channels"), z)

  def test_positions_are_as_they_are(self):
    z = jax.random.normal(jax.random.key(0), (2, 3))
    chex.assert_trees_all_equal(units.to_units(z, "position"), z)
    chex.assert_trees_all_equal(units.from_units(z, "position"), z)

  def test_another_unit_is_named(self):
    units.check_unit("selection_unit", "channels")
    with self.assertRaisesRegex(ValueError, "selection_unit is 'row'"):
      units.check_unit("selection_unit", "row")


class NeededTest(parameterized.TestCase):
  def test_where_the_codebook_was_chosen(self):
    book = jnp.array([[0, 2], [1, 0]])
    needed = units.is_needed(book, 3, "position", 1)
    np.testing.assert_array_equal(needed, np.eye(3, dtype=bool)[book])
    self.assertFalse(units.is_spread("position", 1))

  def test_and_around_where_a_projection_looks_at_neighbours(self):
    book = jnp.zeros((1, 4, 4), jnp.int32).at[0, 0, 0].set(1)
    needed = units.is_needed(book, 2, "position", 3)
    expected = np.zeros((1, 4, 4), bool)
    expected[0, :2, :2] = True
    np.testing.assert_array_equal(needed[..., 1], expected)
    self.assertTrue(needed[..., 0].all())
    self.assertTrue(units.is_spread("position", 3))

  def test_and_in_all_of_an_image_where_a_position_mixes_channels(self):
    book = jnp.zeros((2, 2, 2), jnp.int32).at[1, 0, 1].set(1)
    needed = units.is_needed(book, 2, "channels", 1)
    np.testing.assert_array_equal(needed[0, ..., 1], False)
    np.testing.assert_array_equal(needed[1, ..., 1], True)
    self.assertTrue(units.is_spread("channels", 1))


class PickTest(parameterized.TestCase):
  def test_numbers_and_vectors(self):
    book = jnp.array([1, 0])
    numbers = [jnp.array([1, 2]), jnp.array([3, 4])]
    np.testing.assert_array_equal(units.pick(book, numbers), [3, 2])
    vectors = [jnp.stack([x, -x], -1) for x in numbers]
    np.testing.assert_array_equal(units.pick(book, vectors), [[3, -3], [2, -2]])
