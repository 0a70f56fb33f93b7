"""The state of a codebook in a quantizer: its updates, and what they need."""

from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np

from adq_jax import AdaptiveQuantizer
from adq_jax import codebook_from
from adq_jax import GradientUpdate
from adq_jax import Placement
from adq_jax import VectorQuantizer
from adq_jax import VQVAE
from tests.support.small import make
from tests.support.small import make_variables
from tests.support.small import QUANTIZERS
from tests.support.small import train


def update(module, variables, statistics):
  _, state = module.apply(
    variables, statistics, method="update_codebook", mutable=["codebook"]
  )
  return state["codebook"]


class PlacedParameterTest(parameterized.TestCase):
  """Codewords that are a parameter, and are placed by an offset from it."""

  def setUp(self):
    super().setUp()
    self.quantizer = VectorQuantizer(
      4,
      3,
      update=GradientUpdate(decay=0.5),
      placement=Placement("data", revive_below=0.2),
    )
    self.z = 50 + 9 * jax.random.normal(jax.random.key(0), (40, 3))
    self.variables = make_variables(self.quantizer, self.z)

  def codewords(self, variables):
    return self.quantizer.apply(variables, method="all_codewords")

  def test_the_first_are_encodings_and_the_parameter_stays(self):
    parameter = self.variables["params"]["embedding"]
    chex.assert_trees_all_equal(self.codewords(self.variables), parameter)
    (gradient, _), result, after = train(self.quantizer, self.variables, self.z)
    chex.assert_trees_all_equal(after["params"], self.variables["params"])
    codewords = self.codewords(after)
    far = jnp.linalg.norm(codewords[:, None] - self.z[None], axis=-1)
    self.assertLess(far.min(axis=1).max(), 1)  # noise of 1%
    chex.assert_trees_all_equal(result.values, codewords[result.codes])
    error = jnp.mean((self.z - result.values) ** 2)
    np.testing.assert_allclose(result.loss, 1.25 * error, rtol=1e-5)
    # The codebook term trains the parameter from where codewords were placed.
    expected = np.zeros((4, 3))
    np.add.at(expected, result.codes, 2 * (result.values - self.z) / 120)
    np.testing.assert_allclose(gradient["embedding"], expected, rtol=1e-4)

  def test_a_dead_one_is_placed_and_no_other(self):
    *_, state = train(self.quantizer, self.variables, self.z)
    sizes = jnp.array([20.0, 0.0, 15.0, 10.0])
    state["codebook"]["cluster_size"] = sizes
    offset = state["codebook"]["offset"]
    state["codebook"]["offset"] = offset.at[1].add(1e3)  # no point is near
    before = self.codewords(state)
    *_, after = train(self.quantizer, state, self.z)
    is_same = (self.codewords(after) == before).all(axis=-1)
    np.testing.assert_array_equal(is_same, [True, False, True, True])
    far = jnp.linalg.norm(self.codewords(after)[1] - self.z, axis=-1)
    self.assertLess(far.min(), 1)
    sizes = after["codebook"]["cluster_size"]
    self.assertGreater(sizes[1], 5)  # the mean

  def test_a_state_without_an_offset_is_as_it_was(self):
    plain = self.quantizer.clone(placement=Placement())
    variables = make_variables(plain, self.z)
    self.assertEqual(set(variables["codebook"]), {"cluster_size"})
    chex.assert_trees_all_equal(
      self.quantizer.apply(variables, self.z).codes,
      plain.apply(variables, self.z).codes,
    )


class MicroBatchesTest(parameterized.TestCase):
  @parameterized.parameters("vector", "gradient", "smoothed", "attention")
  def test_several_are_one_update(self, name):
    quantizer = QUANTIZERS[name]
    z = make(quantizer)
    variables = make_variables(quantizer, z)
    step = jax.jit(lambda variables, z: train(quantizer, variables, z)[1:])
    _, expected = step(variables, z)
    total = None
    for part in (z[:1], z[1:]):
      # The collection that this step returns is dropped.
      result, _ = step(variables, part)
      some = result.statistics
      total = jax.tree.map(jnp.add, total, some) if total else some
    found = update(quantizer, variables, total)
    # Codewords far out are sums that nearly cancel.
    chex.assert_trees_all_close(
      found, expected["codebook"], rtol=1e-4, atol=1e-5
    )
    # An update in the middle would have made another codebook.
    _, middle = step(variables, z[:1])
    _, other = step(middle, z[1:])
    self.assertFalse(
      all(
        np.allclose(a, b, rtol=1e-5)
        for a, b in zip(
          jax.tree.leaves(other["codebook"]),
          jax.tree.leaves(found),
          strict=True,
        )
      )
    )

  def test_of_a_whole_model_on_eight_devices(self):
    quantizer = VectorQuantizer(20, 3, features=4, axis_name="devices")
    model = VQVAE(quantizer, channels=1, features=4)
    images = jax.random.normal(jax.random.key(0), (8, 1, 8, 8, 1)) / 4
    variables = make_variables(model, images[0])

    def step(images):
      result, state = model.apply(
        variables, images, train=True, mutable=["codebook"]
      )
      apart = update(model, variables, result.quantized.statistics)
      return state["codebook"], apart

    together, apart = jax.pmap(step, "devices")(images)
    chex.assert_trees_all_close(apart, together, rtol=1e-6)
    self.assertFalse(
      np.allclose(
        together["quantizer"]["embedding"][0],
        variables["codebook"]["quantizer"]["embedding"],
      )
    )

  def test_evaluation_has_no_statistics(self):
    for quantizer in (QUANTIZERS["vector"], QUANTIZERS["attention"]):
      z = make(quantizer)
      variables = make_variables(quantizer, z)
      self.assertIsNone(quantizer.apply(variables, z).statistics)

  def test_errors(self):
    z = make(QUANTIZERS["vector"])
    variables = make_variables(QUANTIZERS["vector"], z)
    _, result, _ = train(QUANTIZERS["vector"], variables, z)
    statistics = result.statistics
    with self.assertRaisesRegex(ValueError, "statistics is a dict"):
      update(QUANTIZERS["vector"], variables, {})
    with self.assertRaisesRegex(ValueError, r"statistics.counts .*\(20,\)"):
      update(
        QUANTIZERS["vector"],
        variables,
        statistics.replace(counts=jnp.ones(3)),
      )
    with self.assertRaisesRegex(ValueError, r"statistics.sums .*\(20, 3\)"):
      update(QUANTIZERS["vector"], variables, statistics.replace(sums=None))
    with self.assertRaisesRegex(ValueError, r'mutable=\["codebook"\]'):
      QUANTIZERS["vector"].apply(
        variables, statistics, method="update_codebook"
      )
    pool = QUANTIZERS["attention"]
    with self.assertRaisesRegex(ValueError, "a tuple of 2 Statistics"):
      update(pool, make_variables(pool, make(pool)), (statistics,))


class StateTest(parameterized.TestCase):
  @parameterized.product(
    name=["vector", "gradient", "placed", "attention"], jitted=(True, False)
  )
  def test_what_init_gave_may_be_donated(self, name, jitted):
    quantizer = QUANTIZERS[name]
    z = make(quantizer)
    init = jax.jit(quantizer.init) if jitted else quantizer.init
    keys = {"params": jax.random.key(0), "codebook": jax.random.key(1)}
    variables = init(keys, z)
    step = jax.jit(
      lambda variables, z: train(quantizer, variables, z)[2], donate_argnums=0
    )
    chex.assert_tree_all_finite(step(step(variables, z), z))

  @parameterized.parameters(
    *((name, "bfloat16") for name in QUANTIZERS), ("vector", "float16")
  )
  def test_variables_of_half_precision(self, name, dtype):
    quantizer = QUANTIZERS[name]
    z = make(quantizer)
    variables = make_variables(quantizer, z)
    half = jax.tree.map(lambda x: x.astype(dtype), variables)
    result, after = quantizer.apply(half, z, mutable=["codebook"])
    # It computes in float32, and leaves what it got as it was.
    chex.assert_type([result.values, result.loss], jnp.float32)
    chex.assert_trees_all_equal(after["codebook"], half["codebook"])
    codes = quantizer.apply(half, z, method="encode")
    values = quantizer.apply(half, codes, method="decode")
    chex.assert_type(values, jnp.float32)
    chex.assert_trees_all_equal(values, result.values)
    with self.assertRaisesRegex(
      ValueError, rf'has dtype {dtype}; .*cast variables\["params"\] alone'
    ):
      train(quantizer, half, z)
    # Parameters may be what the user wants.
    mixed = {**half, "codebook": variables["codebook"]}
    gradient, _, after = train(quantizer, mixed, z)
    chex.assert_trees_all_equal_dtypes(gradient[0], mixed.get("params", {}))
    chex.assert_trees_all_equal_dtypes(after, mixed)

  @parameterized.parameters(
    (VectorQuantizer(8, 3), VectorQuantizer(16, 3)),
    (VectorQuantizer(16, 3), VectorQuantizer(16, 4)),
    (VectorQuantizer(16, 3), VectorQuantizer(12, 3)),
    (
      VectorQuantizer(8, 3, update="smoothed_ema"),
      VectorQuantizer(16, 3, update="smoothed_ema"),
    ),
    (
      AdaptiveQuantizer(((8, 3), (9, 2)), features=4),
      AdaptiveQuantizer(((8, 3), (10, 2)), features=4),
    ),
  )
  def test_a_state_of_another_codebook_is_refused(self, quantizer, other):
    z = make(quantizer)
    z = jnp.ones((5, getattr(other, "features", None) or other.embedding_dim))
    variables = make_variables(other, z)
    z = jnp.ones((5, quantizer.features or quantizer.embedding_dim))
    codes = make_variables(quantizer, z)
    codes = quantizer.apply(codes, z, method="encode")
    for call in (
      lambda: quantizer.apply(variables, z),
      lambda: quantizer.apply(variables, z, method="encode"),
      lambda: quantizer.apply(variables, codes, method="decode"),
      lambda: train(quantizer, variables, z),
    ):
      with self.assertRaisesRegex(
        ValueError, r'in the collection "codebook" has shape .* it must be \('
      ):
        call()

  @parameterized.parameters("cluster_size", "embedding_sum", "initialized")
  def test_every_array_of_it_is_looked_at(self, name):
    quantizer = VectorQuantizer(8, 3)
    state = codebook_from(jnp.ones((8, 3))).to_collection()
    state[name] = jnp.ones((7, 3))
    with self.assertRaisesRegex(ValueError, rf"{name} in .* \(7, 3\)"):
      quantizer.apply({"codebook": state}, jnp.ones((2, 3)))
