from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp

from adq_jax.quantizers import examples


class ExamplesTest(parameterized.TestCase):
  def test_the_default_is_the_place_in_the_batch_of_all_devices(self):
    chex.assert_trees_all_equal(
      examples.index_of(3, None, None), jnp.array([0, 1, 2], jnp.int32)
    )
    found = jax.pmap(
      lambda _: examples.index_of(2, None, "devices"), "devices"
    )(jnp.zeros(4))
    chex.assert_trees_all_equal(found.reshape(-1), jnp.arange(8))
    given = jnp.array([7, 7, 1])
    chex.assert_trees_all_equal(examples.index_of(3, given, None), given)

  @parameterized.parameters(
    (jnp.zeros(3), "example_index has dtype float32"),
    (jnp.zeros(2, jnp.int32), r"example_index has shape \(2,\).*be \(3,\)"),
  )
  def test_what_is_no_index_is_refused(self, index, message):
    with self.assertRaisesRegex(ValueError, message):
      examples.index_of(3, index, None)

  def test_a_key_depends_on_its_example_alone(self):
    key = jax.random.key(0)
    keys = jax.random.key_data(examples.keys_of(key, jnp.array([5, 9, 5])))
    other = jax.random.key_data(examples.keys_of(key, jnp.array([9])))
    chex.assert_trees_all_equal(keys[0], keys[2])
    chex.assert_trees_all_equal(keys[1], other[0])
    self.assertTrue((keys[0] != keys[1]).any())

  def test_a_key_depends_on_the_place_in_the_example_too(self):
    key = jax.random.key(0)
    keys = examples.keys_of_points(key, (2, 3, 2), jnp.array([5, 9]))
    self.assertLen(set(map(tuple, jax.random.key_data(keys).tolist())), 12)
    other = examples.keys_of_points(key, (1, 6), jnp.array([9]))
    chex.assert_trees_all_equal(keys[6:], other)
