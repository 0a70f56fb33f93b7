"""Updates that are made apart from a training step, and what they need."""

import warnings

from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np

from adq_jax import AdaptiveQuantizer
from adq_jax import codebook_from
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


class ArgumentsTest(parameterized.TestCase):
  @parameterized.parameters(*QUANTIZERS)
  def test_codes_of_any_dtype_decode_alike(self, name):
    quantizer = QUANTIZERS[name]
    z = make(quantizer)
    variables = make_variables(quantizer, z)
    codes = quantizer.apply(variables, z, method="encode")
    expected = quantizer.apply(variables, codes, method="decode")
    for dtype in ("int8", "uint8", "int16", "uint16", "uint32", "int64"):
      narrow = jax.tree.map(lambda x, d=dtype: np.asarray(x, d), codes)
      for given in (narrow, jax.tree.map(jnp.asarray, narrow)):
        chex.assert_trees_all_equal(
          quantizer.apply(variables, given, method="decode"), expected
        )

  def test_codes_of_as_many_codewords_as_a_byte_has(self):
    quantizer = VectorQuantizer(256, 2)
    z = jax.random.normal(jax.random.key(0), (500, 2))
    variables = make_variables(quantizer, z)
    codes = quantizer.apply(variables, z, method="encode")
    decode = jax.jit(lambda c: quantizer.apply(variables, c, method="decode"))
    chex.assert_trees_all_equal(
      decode(codes.astype(jnp.uint8)), variables["codebook"]["embedding"][codes]
    )

  @parameterized.parameters({}, [(1, 2)], "codes", None)
  def test_what_is_no_codes(self, *codes):
    for name in ("vector", "attention"):
      quantizer = QUANTIZERS[name]
      z = make(quantizer)
      variables = make_variables(quantizer, z)
      for bad in (dict(book=z, index=z), (z, z), *codes):
        with self.assertRaisesRegex(ValueError, "codes is a .*; it must be"):
          quantizer.apply(variables, bad, method="decode")

  @parameterized.parameters(
    ([[20, 3], [12, 2]],),
    (((20, 3), [12, 2]),),
    ([(np.int64(20), 3), (12, 2)],),
  )
  def test_structures_of_any_sequences(self, structures):
    quantizer = AdaptiveQuantizer(structures, features=4)
    self.assertEqual(quantizer.structures, ((20, 3), (12, 2)))
    self.assertEqual(hash(quantizer), hash(quantizer.clone()))
    self.assertEqual(
      quantizer, AdaptiveQuantizer(((20, 3), (12, 2)), features=4)
    )

  @parameterized.parameters(
    ((20, 3), "must hold pairs"),
    (20, "structures is 20"),
    ("ab", "must hold pairs"),
    (((20, 3, 1),), "must hold pairs"),
    ((), "structures is empty"),
    (((20.0, 3),), r"structures\[0\] .* 20.0"),
    (((20, 3), (12, 0)), r"structures\[1\] .* is 0"),
    (((True, 3),), r"structures\[0\] .* True"),
    ((("20", 3),), r"structures\[0\] .* '20'"),
  )
  def test_structures_that_are_none(self, structures, message):
    with self.assertRaisesRegex(ValueError, message):
      AdaptiveQuantizer(structures, features=4)

  @parameterized.parameters(
    ({"codebook_size": 10.0}, "codebook_size is 10.0; it must be an integer"),
    ({"codebook_size": "10"}, "codebook_size is '10'"),
    ({"codebook_size": True}, "codebook_size is True"),
    ({"embedding_dim": 2.5}, "embedding_dim is 2.5"),
    ({"features": 4.0}, "features is 4.0"),
    ({"commitment_cost": "a"}, "commitment_cost is 'a'"),
    ({"commitment_cost": float("nan")}, "commitment_cost is nan"),
    ({"decay": None}, "decay is None"),
    ({"output_kernel": 1.0}, "output_kernel is 1.0"),
    ({"revive_below": float("inf")}, "revive_below is inf"),
  )
  def test_fields_of_other_types(self, fields, message):
    quantizer = VectorQuantizer(
      **{"codebook_size": 10, "embedding_dim": 3, **fields}
    )
    with self.assertRaisesRegex(ValueError, message):
      quantizer.init(jax.random.key(0), jnp.ones((2, 3)))

  @parameterized.parameters("vector", "attention")
  def test_an_axis_that_is_not_there(self, name):
    quantizer = QUANTIZERS[name].clone(axis_name="nowhere")
    z = make(quantizer)
    variables = make_variables(quantizer, z)
    with self.assertRaisesRegex(
      ValueError,
      r"axis_name is 'nowhere', .*jax.pmap\(..., axis_name='nowhere'",
    ):
      train(quantizer, variables, z)

  @parameterized.parameters("vector", "attention")
  def test_numpy_of_64_bits_gives_no_warning(self, name):
    quantizer = QUANTIZERS[name]
    z = np.asarray(make(quantizer), np.float64)
    variables = make_variables(quantizer, z)
    with warnings.catch_warnings(record=True) as warned:
      warnings.simplefilter("always")
      result = train(quantizer, variables, z)[1]
    told = [str(w.message) for w in warned if "float64" in str(w.message)]
    self.assertEmpty(told)
    chex.assert_type(result.values, jnp.float32)

  @parameterized.parameters(1, None, "yes")
  def test_train_is_true_or_false(self, value):
    for name in ("vector", "attention"):
      quantizer = QUANTIZERS[name]
      z = make(quantizer)
      variables = make_variables(quantizer, z)
      with self.assertRaisesRegex(ValueError, f"train is {value!r}"):
        quantizer.apply(variables, z, train=value)
      with self.assertRaisesRegex(ValueError, "train is traced"):
        jax.jit(
          lambda t, q=quantizer, v=variables, z=z: q.apply(v, z, train=t)
        )(True)

  @parameterized.parameters(0.0, -1.0, float("nan"))
  def test_a_temperature_is_above_zero(self, temperature):
    quantizer = QUANTIZERS["attention"]
    z = make(quantizer)
    with self.assertRaisesRegex(ValueError, f"temperature is {temperature}"):
      quantizer.apply(make_variables(quantizer, z), z, temperature=temperature)
