from absl.testing import absltest
import chex
import jax.numpy as jnp

from adq_jax import FSQ
from adq_jax import VectorQuantizer
from adq_jax.quantizers.group_codes import GroupCodes


class GroupCodesTest(absltest.TestCase):
  def test_groups_lie_behind_the_positions(self):
    of_groups = [jnp.array([[1, 2]]), jnp.array([[3, 0]])]
    for quantizer, joined in (
      (VectorQuantizer(4, 2), [[[1, 3], [2, 0]]]),  # of two positions
      (FSQ((4, 4)), [[[1, 2], [3, 0]]]),  # of one, with two numbers
    ):
      codes = GroupCodes(quantizer, 2)
      chex.assert_trees_all_equal(codes.join(of_groups), jnp.array(joined))
      chex.assert_trees_all_equal(codes.split(jnp.array(joined)), of_groups)

  def test_groups_that_are_not_kept(self):
    codes = GroupCodes(FSQ((4, 4)), 2)
    joined = jnp.array([[[1, 2], [3, 0]], [[0, 1], [2, 2]]])
    is_kept = jnp.array([[True, False], [True, True]])
    cut = codes.cut(joined, is_kept, -1)
    chex.assert_trees_all_equal(cut, joined.at[0, 1].set(-1))
    chex.assert_trees_all_equal(codes.is_kept(cut), is_kept)
    with self.assertRaisesRegex(ValueError, "axis -2 must be of length 2"):
      codes.is_kept(joined[:, :1])
