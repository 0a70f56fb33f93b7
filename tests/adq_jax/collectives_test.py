from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adq_jax import collectives

pytestmark = pytest.mark.usefixtures("without_kept_programs")
AXIS = "devices"


class CollectivesTest(parameterized.TestCase):
  def test_what_all_have_is_gathered_in_order(self):
    x = jnp.arange(24.0).reshape(8, 3)
    found = jax.pmap(lambda x: collectives.gather((x, x + 1), AXIS), AXIS)(x)
    for device in range(8):
      chex.assert_trees_all_equal(
        jax.tree.map(lambda y, i=device: y[i], found),
        (x.reshape(-1), x.reshape(-1) + 1),
      )
    chex.assert_trees_all_equal(collectives.gather(x, None), x)

  def test_points_go_to_their_owners_and_back_to_their_place(self):
    x = jnp.arange(8 * 2 * 16).reshape(8, 2, 16)  # [device, kind, point]

    def both(x):
      own = collectives.part_of_device(x.T, AXIS)
      return collectives.to_owners(x, AXIS), own

    owned, own = jax.pmap(both, AXIS)(x)
    chex.assert_shape(owned, (8, 8, 2, 2))  # [owner, sender, kind, point]
    for owner in range(8):
      part = x[:, :, 2 * owner : 2 * owner + 2]
      chex.assert_trees_all_equal(owned[owner], part)
      chex.assert_trees_all_equal(own[owner], part[owner].T)

  def test_each_codeword_is_in_one_shard(self):
    codes = jnp.array([0, 5, 6, 47, 48, -1])
    local = jax.pmap(
      lambda _: collectives.codes_in_shard(codes, 6, AXIS), AXIS
    )(jnp.arange(8))
    expected = np.full((8, 6), 6)
    expected[0, :2], expected[1, 2], expected[7, 3] = (0, 5), 0, 5
    np.testing.assert_array_equal(local, expected)
    rows = jax.pmap(lambda _: collectives.rows_of_shard(6, AXIS), AXIS)(
      jnp.arange(8)
    )
    np.testing.assert_array_equal(rows.reshape(-1), np.arange(48))
    np.testing.assert_array_equal(collectives.rows_of_shard(3, None), range(3))

  def test_sums_do_not_depend_on_the_number_of_shards(self):
    values = jax.random.normal(jax.random.key(0), (2**12 - 2**5,)) ** 2
    whole = collectives.total(values, None)
    np.testing.assert_allclose(
      whole, np.asarray(values, np.float64).sum(), 1e-6
    )
    for count in (1, 2, 4, 8):
      sums = jax.pmap(
        lambda x: collectives.total(x, "devices"),
        "devices",
        devices=jax.devices()[:count],
      )(values.reshape(count, -1))
      chex.assert_trees_all_equal(sums, jnp.full(count, whole))

  def test_the_mean_is_of_all_shards(self):
    values = jnp.arange(24.0).reshape(8, 3)
    means = jax.pmap(lambda x: collectives.mean(x, AXIS), AXIS)(values)
    np.testing.assert_allclose(means, np.full(8, 11.5))
    np.testing.assert_allclose(collectives.mean(values[0], None), 1.0)

  def test_halves_are_added_up_for_any_number(self):
    for count in (1, 2, 3, 7, 8, 33):
      values = jnp.arange(count * 2.0).reshape(count, 2)
      chex.assert_trees_all_equal(
        collectives.add_up(values), values.sum(axis=0)
      )
