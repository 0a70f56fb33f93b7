from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np

from adq_jax import AdaptiveQuantizer
from adq_jax import CodedPrice
from adq_jax import DistortionChoice
from adq_jax import EmaUpdate
from adq_jax import FSQ
from adq_jax import GradientUpdate
from adq_jax import NominalPrice
from adq_jax import ProductQuantizer
from adq_jax import ResidualFSQ
from adq_jax import ResidualQuantizer
from adq_jax import VectorQuantizer

Z = np.random.default_rng(0).normal(size=(2, 5, 6)).astype(np.float32)


def make(quantizer, z=Z):
  return quantizer.init(jax.random.key(0), z)


class ProductQuantizerTest(parameterized.TestCase):
  def test_a_shared_codebook_by_hand(self):
    quantizer = ProductQuantizer(
      2, VectorQuantizer(2, 2, update=GradientUpdate()), shared_codebook=True
    )
    z = jnp.array([[0.9, 0.2, 0.1, 1.2]])
    variables = make(quantizer, z)
    variables["params"]["groups_0"]["embedding"] = jnp.eye(2)
    result = quantizer.apply(variables, z)
    chex.assert_trees_all_equal(result.codes, jnp.array([[0, 1]], jnp.int32))
    chex.assert_trees_all_equal(result.values, jnp.array([[1.0, 0, 0, 1]]))
    # The paper adds up the squares of a segment; here it is their mean.
    np.testing.assert_allclose(2 * result.loss, 0.0625, rtol=1e-6)
    error = result.metrics["quantization_error"]
    np.testing.assert_allclose(2 * error, 0.05, rtol=1e-6)

  def test_one_codebook_learns_from_all_groups_in_one_update(self):
    inner = VectorQuantizer(3, 2, update=EmaUpdate(decay=0.5))
    quantizer = ProductQuantizer(3, inner, shared_codebook=True)
    variables = make(quantizer)
    result, state = quantizer.apply(
      variables, Z, train=True, mutable=["codebook"]
    )
    alone, expected = inner.apply(
      {"codebook": variables["codebook"]["groups_0"]},
      Z.reshape(-1, 2),
      train=True,
      mutable=["codebook"],
    )
    chex.assert_trees_all_close(
      state["codebook"]["groups_0"], expected["codebook"], rtol=1e-6
    )
    chex.assert_trees_all_equal(result.codes.reshape(-1), alone.codes)
    np.testing.assert_allclose(result.loss, alone.loss, rtol=1e-6)
    _, again = quantizer.apply(
      variables, result.statistics, mutable=True, method="update_codebook"
    )
    chex.assert_trees_all_equal(again["codebook"], state["codebook"])

  def test_groups_are_quantizers_of_consecutive_channels(self):
    inner = VectorQuantizer(4, 2)
    quantizer = ProductQuantizer(3, inner)
    variables = make(quantizer)
    result, state = quantizer.apply(
      variables, Z, train=True, mutable=["codebook"]
    )
    losses = []
    for g in range(3):
      own, after = inner.apply(
        {"codebook": variables["codebook"][f"groups_{g}"]},
        Z[..., 2 * g : 2 * g + 2],
        train=True,
        mutable=["codebook"],
      )
      chex.assert_trees_all_equal(result.codes[..., g], own.codes)
      chex.assert_trees_all_equal(
        result.values[..., 2 * g : 2 * g + 2], own.values
      )
      chex.assert_trees_all_close(
        state["codebook"][f"groups_{g}"], after["codebook"]
      )
      losses.append(own.loss)
    np.testing.assert_allclose(result.loss, np.mean(losses), rtol=1e-6)
    chex.assert_shape(result.metrics["perplexity"], (3,))
    _, again = quantizer.apply(
      variables, result.statistics, mutable=True, method="update_codebook"
    )
    chex.assert_trees_all_equal(again["codebook"], state["codebook"])

  @parameterized.parameters(False, True)
  def test_the_gradient_is_the_identity(self, shared):
    inner = ResidualQuantizer(2, 4, 2)
    quantizer = ProductQuantizer(3, inner, shared_codebook=shared)
    variables = make(quantizer)
    jacobian = jax.jacobian(lambda z: quantizer.apply(variables, z).values)
    chex.assert_trees_all_equal(jacobian(Z[0, 0]), jnp.eye(6))

  @parameterized.parameters(
    (ResidualQuantizer(2, 4, 2), (2,), ("group_0_stage_0", "group_0_stage_1")),
    (FSQ((5, 4)), (2,), ("group_0_level_0", "group_0_level_1")),
    (
      ResidualFSQ((5, 4), num_stages=1),
      (1, 2),
      ("group_0_stage_0_level_0", "group_0_stage_0_level_1"),
    ),
  )
  def test_any_quantizer_of_a_group(self, inner, rest, names):
    quantizer = ProductQuantizer(3, inner)
    variables = make(quantizer)
    result = quantizer.apply(variables, Z)
    chex.assert_shape(result.codes, (2, 5, 3, *rest))
    streams = quantizer.streams
    self.assertEqual(tuple(s.name for s in streams[:2]), names)
    groups = {stream.group for stream in streams}
    self.assertIn(len(groups), (1, 3))  # none, or one for each group
    values = quantizer.to_streams(result.codes)
    chex.assert_trees_all_equal(
      quantizer.from_streams(values), jnp.asarray(result.codes)
    )
    decoded = quantizer.apply(variables, result.codes, method="decode")
    chex.assert_trees_all_equal(decoded, result.values)

  def test_a_pool_in_each_group(self):
    pool = AdaptiveQuantizer(((8, 1), (4, 2)), 2, choice=DistortionChoice())
    quantizer = ProductQuantizer(3, pool)
    variables = make(quantizer)
    result = quantizer.apply(variables, Z)
    chex.assert_shape(jax.tree.leaves(result.codes), (2, 5, 3))
    again = quantizer.from_streams(quantizer.to_streams(result.codes))
    decoded = quantizer.apply(variables, again, method="decode")
    chex.assert_trees_all_equal(decoded, result.values)

  def test_a_bit_costs_as_much_as_in_one_quantizer_of_the_whole(self):
    inner = ResidualQuantizer(1, 4, 2, price=NominalPrice())
    quantizer = ProductQuantizer(2, inner, shared_codebook=True)
    z = jnp.array([[1.0, 0, 0.5, 0]])
    variables = make(quantizer, z)
    book = variables["codebook"]["groups_0"]["codebooks_0"]
    book["embedding"] = jnp.array([[1.0, 0], [0.5, 0], [9, 9], [9, 9]])
    # A depth takes one bit, whatever it is, and a codeword log2 4.  A codeword
    # takes 1 / 4, or 0.25 / 4, off the mean square of all four numbers.
    for price, used in ((0.02, [1, 1]), (0.1, [1, 0]), (0.13, [0, 0])):
      codes = quantizer.apply(variables, z, rate_weight=price, method="encode")
      chex.assert_trees_all_equal((codes[0, :, 0] >= 0) * 1, jnp.array(used))
    result = quantizer.apply(variables, z, rate_weight=0.1)
    np.testing.assert_allclose(result.metrics["rate"], 1 + 1 + 2, rtol=2e-3)

  def test_a_point_that_is_not_finite_in_one_group_has_no_code_in_any(self):
    quantizer = ProductQuantizer(3, VectorQuantizer(4, 2))
    z = jnp.asarray(Z).at[0, 0, 5].set(jnp.nan)
    variables = make(quantizer)
    result = quantizer.apply(variables, z)
    chex.assert_trees_all_equal(result.codes[0, 0], jnp.zeros(3, jnp.int32))
    self.assertEqual(result.metrics["nonfinite_points"], 1)
    expected = quantizer.apply(
      variables, Z, mask=jnp.ones((2, 5)).at[0, 0].set(0)
    )
    np.testing.assert_allclose(result.loss, expected.loss, rtol=1e-6)

  @parameterized.parameters(
    ({"num_groups": 0}, "num_groups is 0"),
    ({"num_groups": 257}, "num_groups is 257; it must be at most 256"),
    ({"quantizer": None}, "quantizer is None; it must be a Quantizer, such as"),
    ({"quantizer": VectorQuantizer(0, 2)}, r"quantizer\.codebook_size is 0"),
    (
      {"quantizer": VectorQuantizer(4, 2, axis_name="x")},
      r"quantizer\.axis_name is 'x'; it must be None",
    ),
    (
      {"quantizer": VectorQuantizer(4, 2, train=True)},
      r"quantizer\.train is True; it must be None",
    ),
    (
      {"quantizer": VectorQuantizer(4, 2, features=2, output_kernel=3)},
      r"quantizer\.spatial_axes is 2; it must be 0",
    ),
  )
  def test_fields(self, fields, message):
    fields = {"num_groups": 2, "quantizer": VectorQuantizer(4, 2), **fields}
    with self.assertRaisesRegex(ValueError, message):
      ProductQuantizer(**fields).check()

  def test_arguments(self):
    quantizer = ProductQuantizer(3, VectorQuantizer(4, 2, price=CodedPrice()))
    variables = make(quantizer)
    with self.assertRaisesRegex(ValueError, "z has shape .*width"):
      quantizer.apply(variables, Z[..., :5])
    for shape in ((), (3, 2)):
      codes = jnp.zeros(shape, jnp.int32)
      with self.assertRaisesRegex(ValueError, "length 3, the .* num_groups"):
        quantizer.apply(variables, codes, method="decode")
