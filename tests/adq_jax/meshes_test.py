import math
import re

from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
from jax.sharding import AxisType
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec
import numpy as np

from adq_jax import AdaptiveQuantizer
from adq_jax import code_counts
from adq_jax import CodedPrice
from adq_jax import DistortionChoice
from adq_jax import index_codebook
from adq_jax import nearest_codes
from adq_jax import ResidualQuantizer
from adq_jax import VectorQuantizer
from adq_jax import VQVAE
from tests.support.small import make_variables
from tests.support.small import train

_POINTS, _SIZE, _WIDTH = 4096, 48, 6
_COLLECTIVE = re.compile(
  r"= (.*?) (?:all-gather|all-reduce|all-to-all|collective-permute"
  r"|reduce-scatter)(?:-start)?\("
)
_NUMBERS = re.compile(r"\b[a-z]+(\d+)\[([\d,]*)\]")


def largest_sent(text):
  """The bytes of the largest array that a program sends between devices."""
  return max(
    int(bits) // 8 * math.prod(int(n) for n in shape.split(",") if n)
    for sent in _COLLECTIVE.findall(text)
    for bits, shape in _NUMBERS.findall(sent)
  )


def make_mesh(kind):
  return jax.make_mesh((8,), ("data",), axis_types=(kind,))


class MeshesTest(parameterized.TestCase):
  @parameterized.product(
    kind=(AxisType.Auto, AxisType.Explicit),
    quantizer=(
      VectorQuantizer(_SIZE, _WIDTH),
      AdaptiveQuantizer(
        ((_SIZE, _WIDTH), (16, 3)), _WIDTH, choice=DistortionChoice()
      ),
      ResidualQuantizer(2, _SIZE, _WIDTH, price=CodedPrice(0.1)),
    ),
  )
  def test_a_step_sends_codes_and_sums_alone(self, kind, quantizer):
    z = jnp.ones((_POINTS, _WIDTH))
    variables = make_variables(quantizer, z)
    mesh = make_mesh(kind)
    with jax.set_mesh(mesh):
      batch = jax.device_put(z, NamedSharding(mesh, PartitionSpec("data")))
      state = jax.device_put(variables, NamedSharding(mesh, PartitionSpec()))
      step = jax.jit(lambda v, z: train(quantizer, v, z))
      text = step.lower(state, batch).compile().as_text()
    self.assertLessEqual(largest_sent(text), 4 * _POINTS)

  def test_results_lie_as_points_do(self):
    quantizer = VectorQuantizer(_SIZE, _WIDTH)
    z = jax.random.normal(jax.random.key(0), (16, 2, _WIDTH))
    expected = quantizer.init_with_output(jax.random.key(1), z)
    mesh = make_mesh(AxisType.Explicit)
    rows = NamedSharding(mesh, PartitionSpec("data", None, None))
    with jax.set_mesh(mesh):
      z = jax.device_put(z, rows)
      # Outside of jit too, where no program is compiled of the whole.
      result, variables = quantizer.init_with_output(jax.random.key(1), z)
      codes = quantizer.apply(variables, z, method="encode")
      values = quantizer.apply(variables, codes, method="decode")
    chex.assert_trees_all_equal(result.codes, expected[0].codes)
    chex.assert_trees_all_close((result, variables), expected, rtol=1e-6)
    chex.assert_trees_all_equal(values, expected[0].values)
    for x in (result.values, values):
      self.assertEqual(x.sharding, rows)
    for x in (result.codes, codes):
      self.assertEqual(x.sharding.spec, PartitionSpec("data", None))
    for x in jax.tree.leaves((result.loss, result.metrics, variables)):
      self.assertTrue(x.sharding.is_fully_replicated)

  def test_the_mesh_of_an_array_is_entered_outside_of_jit(self):
    quantizer = VectorQuantizer(_SIZE, _WIDTH)
    variables = make_variables(quantizer, jnp.zeros((1, _WIDTH)))
    embedding = variables["codebook"]["embedding"]  # on one device
    rows = NamedSharding(make_mesh(AxisType.Explicit), PartitionSpec("data"))
    z = jax.device_put(embedding[::3], rows)
    codes = nearest_codes(z, embedding)
    chex.assert_trees_all_equal(codes, np.arange(0, _SIZE, 3))
    values, after = quantizer.apply(
      variables, codes, method="decode", mutable=["codebook"]
    )
    chex.assert_trees_all_equal(values, z)
    chex.assert_trees_all_equal(after, variables)
    self.assertTrue(jax.sharding.get_abstract_mesh().empty)

  @parameterized.parameters(False, True)
  def test_functions_take_points_of_any_mesh(self, is_cut):
    rng = np.random.default_rng(0)
    z, codewords = rng.normal(size=(16, 2, 3)), rng.normal(size=(_SIZE, 3))
    squares = np.square(z[..., None, :] - codewords).sum(axis=-1)
    bits = rng.uniform(0, 9, _SIZE)
    mesh = make_mesh(AxisType.Explicit)
    rows = NamedSharding(mesh, PartitionSpec("data", None, None))
    with jax.set_mesh(mesh):
      z = jax.device_put(jnp.asarray(z, jnp.float32), rows)
      codewords = jax.device_put(
        jnp.asarray(codewords, jnp.float32),
        NamedSharding(mesh, PartitionSpec("data" if is_cut else None)),
      )
      found = jax.jit(
        lambda z, codewords: (
          nearest_codes(z, codewords),
          nearest_codes(z, index_codebook(codewords)),
          nearest_codes(z, codewords, penalty=jnp.asarray(bits)),
        )
      )(z, codewords)
      counts = jax.jit(lambda codes: code_counts(codes, _SIZE))(found[0])
    nearest = squares.argmin(axis=-1)
    for codes, expected in zip(
      found, (nearest, nearest, (squares + bits).argmin(axis=-1)), strict=True
    ):
      np.testing.assert_array_equal(codes, expected)
      self.assertEqual(codes.sharding.spec, PartitionSpec("data", None))
    np.testing.assert_array_equal(
      counts, np.bincount(nearest.ravel(), minlength=_SIZE)
    )

  @parameterized.parameters(AxisType.Auto, AxisType.Explicit)
  def test_a_codebook_may_lie_on_several_devices(self, kind):
    quantizer = VectorQuantizer(_SIZE, _WIDTH)
    z = jax.random.normal(jax.random.key(0), (16, 2, _WIDTH))
    variables = make_variables(quantizer, z)
    (_, gradient), expected, after = jax.jit(
      lambda v, z: train(quantizer, v, z)
    )(variables, z)
    mesh = make_mesh(kind)
    rows = NamedSharding(mesh, PartitionSpec("data"))

    def spread(x):
      return jax.device_put(
        x, rows if x.ndim else NamedSharding(mesh, PartitionSpec())
      )

    with jax.set_mesh(mesh):
      (_, found_gradient), found, found_after = jax.jit(
        lambda v, z: train(quantizer, v, z)
      )(jax.tree.map(spread, variables), spread(z))
    chex.assert_trees_all_equal(found.codes, expected.codes)
    chex.assert_trees_all_close(
      (found_gradient, found, found_after),
      (gradient, expected, after),
      rtol=1e-5,
      atol=1e-6,
    )
    if kind == AxisType.Explicit:
      embedding = found_after["codebook"]["embedding"]
      self.assertEqual(embedding.sharding.spec, PartitionSpec("data", None))

  def test_a_model_takes_images_of_any_mesh(self):
    model = VQVAE(VectorQuantizer(_SIZE, 4, 8), channels=1, features=8)
    images = jnp.zeros((8, 8, 8, 1))
    variables = jax.jit(model.init)(jax.random.key(0), images)
    expected = jax.jit(model.apply)(variables, images)
    mesh = make_mesh(AxisType.Explicit)
    with jax.set_mesh(mesh):
      images = jax.device_put(
        images, NamedSharding(mesh, PartitionSpec("data"))
      )
      variables = jax.device_put(
        variables, NamedSharding(mesh, PartitionSpec())
      )
      found = jax.jit(model.apply)(variables, images)
    chex.assert_trees_all_equal(found.quantized.codes, expected.quantized.codes)
    chex.assert_trees_all_close(found.images, expected.images, atol=1e-6)
