"""Arguments and fields of quantizers: what they take, and what they refuse."""

import warnings

from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np

from adq_jax import AdaptiveQuantizer
from adq_jax import VectorQuantizer
from tests.support.small import make
from tests.support.small import make_variables
from tests.support.small import QUANTIZERS
from tests.support.small import train


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

  @parameterized.parameters(1, "yes")
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
