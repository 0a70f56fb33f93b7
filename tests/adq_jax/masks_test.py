"""Padding, and points that are not finite, reach nothing."""

import functools

from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np

from adq_jax import checks
from adq_jax import code_counts
from adq_jax import masks
from adq_jax import VectorQuantizer
from adq_jax import VQVAE
from tests.support.small import bits
from tests.support.small import make
from tests.support.small import make_variables
from tests.support.small import MASK
from tests.support.small import QUANTIZERS
from tests.support.small import train

DTYPES = (bool, np.uint8, np.int32, np.float16, jnp.bfloat16, np.float64)


@functools.cache
def step_of(name):
  """A jitted training step of a quantizer, and its variables."""
  quantizer = QUANTIZERS[name]
  variables = make_variables(quantizer, make(quantizer))

  @jax.jit
  def step(z, mask):
    gradient, result, after = train(quantizer, variables, z, mask)
    return gradient, result.loss, result.metrics, result.statistics, after

  return step, variables


class PaddingTest(parameterized.TestCase):
  @parameterized.parameters(*DTYPES)
  def test_a_mask_of_any_dtype(self, dtype):
    mask = np.asarray(MASK).astype(dtype)
    for given in (mask, jnp.asarray(mask)):
      checks.check_mask("mask", given, MASK.shape, "one for each point")
      for as_bool in (masks.as_bool, jax.jit(masks.as_bool, static_argnums=1)):
        chex.assert_trees_all_equal(as_bool(given, MASK.shape), MASK == 1)

  @parameterized.parameters("vector", "attention")
  def test_a_step_with_bytes_for_a_mask(self, name):
    step, variables = step_of(name)
    z, mask = make(QUANTIZERS[name]), MASK.astype(jnp.uint8)
    chex.assert_trees_all_equal(step(z, mask), step(z, MASK))
    # The same mask, before anything is traced.
    QUANTIZERS[name].apply(variables, z, mask=mask)

  @parameterized.parameters(
    (0.5, np.float32),
    (255, np.uint8),
    (-1, np.int8),
    (2, np.int32),
    (np.nan, np.float32),
    (np.inf, np.float16),
  )
  def test_other_values_are_refused(self, value, dtype):
    mask = np.asarray(MASK).astype(dtype)
    mask[2, 1, 3] = value
    for name in ("vector", "attention"):
      _, variables = step_of(name)
      with self.assertRaisesRegex(
        ValueError, f"mask has the value {value}; .*1"
      ):
        QUANTIZERS[name].apply(variables, make(QUANTIZERS[name]), mask=mask)

  @parameterized.parameters((0.5, np.float32), (255, np.uint8), (2, np.int32))
  def test_where_they_cannot_be_seen_only_one_is_real(self, value, dtype):
    step, _ = step_of("vector")
    z = make(QUANTIZERS["vector"])
    mask = np.asarray(MASK).astype(dtype)
    expected = step(z, mask)
    mask[1] = value
    chex.assert_trees_all_equal(step(z, mask), expected)

  def test_other_functions_have_the_same_rule(self):
    codes = jnp.array([0, 1, 1])
    chex.assert_trees_all_equal(
      code_counts(codes, 2, mask=np.array([1, 0, 1], np.uint8)),
      jnp.array([1.0, 1.0]),
    )
    with self.assertRaisesRegex(ValueError, "mask has the value 0.25"):
      code_counts(codes, 2, mask=jnp.array([1, 0.25, 1]))
    with self.assertRaisesRegex(ValueError, "mask is a list"):
      code_counts(codes, 2, mask=[1, 0, 1])
    with self.assertRaisesRegex(ValueError, "mask has dtype complex64"):
      step_of("vector")[0](make(QUANTIZERS["vector"]), MASK.astype(complex))


class NotFiniteTest(parameterized.TestCase):
  @parameterized.parameters("vector", "placed", "attention")
  def test_a_batch_with_nothing_else(self, name):
    step, variables = step_of(name)
    z = make(QUANTIZERS[name]) * np.nan
    gradient, loss, metrics, _, after = step(z, MASK)
    chex.assert_tree_all_finite((gradient, loss, metrics, after))
    self.assertEqual(metrics["nonfinite_points"], 32)
    before, after = (
      {
        str(path): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(v)
        if "'embedding'" in str(path)
      }
      for v in (variables, after)
    )
    chex.assert_trees_all_equal(after, before)

  def test_what_only_the_projection_makes_infinite(self):
    quantizer = VectorQuantizer(20, 3, features=4)
    z = make(quantizer).at[0, 0, 0].set(3e38)
    variables = make_variables(quantizer, z)
    variables["params"] = jax.tree.map(jnp.ones_like, variables["params"])
    gradient, result, after = train(quantizer, variables, z)
    chex.assert_tree_all_finite((gradient, result, after))
    self.assertEqual(result.metrics["nonfinite_points"], 1)

  def test_a_point_that_is_not_finite_has_code_0(self):
    quantizer = QUANTIZERS["vector"]
    z = make(quantizer).at[0, 0, 0].set(np.nan).at[2, 1, 0, 0].set(np.inf)
    codes = quantizer.apply(make_variables(quantizer, z), z).codes
    self.assertEqual((codes[0, 0, 0], codes[2, 1, 0]), (0, 0))

  def test_devices_count_them_together(self):
    quantizer = QUANTIZERS["vector"].clone(axis_name="devices")
    z = jax.random.normal(jax.random.key(0), (8, 6, 3))
    z = z.at[0, :3].set(np.nan).at[5, 2].set(np.inf)
    mask = jnp.ones((8, 6)).at[0, 0].set(0)
    variables = make_variables(quantizer, z[0])
    _, result, after = jax.pmap(
      lambda z, mask: train(quantizer, variables, z, mask), "devices"
    )(z, mask)
    chex.assert_trees_all_equal(
      result.metrics["nonfinite_points"], jnp.full(8, 3.0)
    )
    one = quantizer.clone(axis_name=None)
    _, expected, state = train(
      one, variables, z.reshape(48, 3), mask.reshape(48)
    )
    chex.assert_trees_all_close(
      jax.tree.map(lambda x: x[0], (result.metrics, after["codebook"])),
      (expected.metrics, state["codebook"]),
      rtol=1e-5,
    )


class ModelTest(parameterized.TestCase):
  @parameterized.parameters("vector", "attention", "distortion")
  def test_a_padded_image_reaches_nothing(self, name):
    quantizer = QUANTIZERS[name].clone(features=4)
    model = VQVAE(quantizer, channels=1, features=4)
    images = jax.random.normal(jax.random.key(0), (3, 8, 8, 1)) / 4
    variables = make_variables(model, images)
    mask = jnp.array([1, 0, 1], jnp.uint8)

    @jax.jit
    def step(images):
      def loss(params):
        result, state = model.apply(
          {**variables, "params": params},
          images,
          train=True,
          mask=mask,
          mutable=["codebook"],
          rngs={"gumbel": jax.random.key(2), "codebook": jax.random.key(3)},
        )
        return result.loss, (result.mse, result.quantized.metrics, state)

      return jax.value_and_grad(loss, has_aux=True)(variables["params"])

    expected = bits(step(images.at[1].set(0)))
    for garbage in (np.nan, np.inf, 1e6):
      found = step(images.at[1].set(garbage))
      chex.assert_tree_all_finite(found)
      chex.assert_trees_all_equal(bits(found), expected)
