"""Quantizers and search under settings of JAX's that users turn on."""

import contextlib

from absl.testing import parameterized
import chex
import jax
from jax.experimental import checkify
import jax.numpy as jnp
import numpy as np
import pytest

from adq_jax import nearest_codes
from adq_jax import VQVAE
from tests.support.small import make
from tests.support.small import make_variables
from tests.support.small import MASK
from tests.support.small import QUANTIZERS
from tests.support.small import train as train_step


@contextlib.contextmanager
def strict():
  with (
    jax.numpy_dtype_promotion("strict"),
    jax.numpy_rank_promotion("raise"),
    jax.debug_nans(True),
  ):
    yield


MODES = {"x64": lambda: jax.enable_x64(True), "strict": strict}
METHODS = ("auto", "blocked", "screened", "cells", "pallas", "dense")


def everything(quantizer, z, mask):
  """What a user does with a quantizer: train, differentiate, encode, decode."""
  variables = make_variables(quantizer, z)
  gradient, trained, variables = jax.jit(
    lambda variables: train_step(quantizer, variables, z, mask)
  )(variables)
  evaluated = jax.jit(quantizer.apply)(variables, z)
  codes = jax.jit(lambda v, z: quantizer.apply(v, z, method="encode"))(
    variables, z
  )
  decoded = jax.jit(lambda v, c: quantizer.apply(v, c, method="decode"))(
    variables, codes
  )
  eager = quantizer.apply(variables, codes, method="decode")
  chex.assert_trees_all_equal(decoded, evaluated.values)
  chex.assert_trees_all_close(eager, decoded, rtol=1e-5, atol=1e-6)
  return variables, gradient, trained, evaluated, codes, decoded


class ModesTest(parameterized.TestCase):
  @parameterized.parameters(*QUANTIZERS)
  @pytest.mark.slow
  def test_quantizers_do_as_without(self, name):
    quantizer = QUANTIZERS[name]
    z = make(quantizer)
    expected = everything(quantizer, z, MASK)
    # At once: what a wider type would change, strict promotion refuses.
    with MODES["x64"](), MODES["strict"]():
      found = everything(quantizer, z, MASK)
    chex.assert_trees_all_equal_shapes_and_dtypes(found, expected)
    chex.assert_trees_all_close(found, expected, rtol=1e-4, atol=1e-5)

  @parameterized.product(method=METHODS, mode=list(MODES))
  def test_every_search_does_as_without(self, method, mode):
    for dim in (1, 2, 16) if method == "auto" else (2,):
      z = jax.random.normal(jax.random.key(0), (300, dim), jnp.float32)
      size = 4096 if dim == 1 else 400
      codebook = jax.random.normal(jax.random.key(1), (size, dim), jnp.float32)
      expected = nearest_codes(z, codebook, method=method)
      with MODES[mode]():
        chex.assert_trees_all_equal(
          nearest_codes(z, codebook, method=method), expected
        )

  @parameterized.parameters("x64", "strict")
  def test_a_whole_model(self, mode):
    model = VQVAE(QUANTIZERS["attention"], channels=1, features=4)
    images = jnp.zeros((2, 8, 8, 1), jnp.float32)
    with MODES[mode]():
      variables = jax.jit(model.init)(
        {"params": jax.random.key(0), "codebook": jax.random.key(1)}, images
      )
      mask = jnp.array([1, 0], jnp.uint8)
      result = jax.jit(model.apply)(variables, images, mask=mask)
    chex.assert_type([result.images, result.loss], jnp.float32)
    for leaf in jax.tree.leaves(variables):
      self.assertIn(leaf.dtype, (jnp.float32, bool))

  def test_arrays_of_64_bits_come_back_as_they_came(self):
    with jax.enable_x64(True):
      quantizer = QUANTIZERS["projected"]
      z = make(quantizer)
      variables = quantizer.init(jax.random.key(0), z)
      result = quantizer.apply(variables, np.asarray(z, np.float64))
      chex.assert_type(result.values, jnp.float64)
      chex.assert_type(result.codes, jnp.int32)
      chex.assert_type(result.loss, jnp.float32)
      wide = np.asarray(result.codes, np.int64)
      chex.assert_trees_all_equal(
        quantizer.apply(variables, wide, method="decode"),
        quantizer.apply(variables, result.codes, method="decode"),
      )

  @parameterized.parameters(*QUANTIZERS)
  def test_checks_find_nothing_in_decoding_good_codes(self, name):
    quantizer = QUANTIZERS[name]
    z = make(quantizer)
    variables = make_variables(quantizer, z)
    codes = jax.jit(lambda z: quantizer.apply(variables, z, method="encode"))(z)
    checked = checkify.checkify(
      lambda codes: quantizer.apply(variables, codes, method="decode"),
      errors=checkify.all_checks,
    )
    error, _ = jax.jit(checked)(codes)
    self.assertIsNone(error.get())

  @parameterized.parameters(*QUANTIZERS)
  def test_nothing_divides_by_zero_or_makes_nan_of_good_points(self, name):
    quantizer = QUANTIZERS[name]
    z = make(quantizer)
    variables = make_variables(quantizer, z)
    error, _ = jax.jit(
      checkify.checkify(
        lambda z: train_step(quantizer, variables, z, MASK),
        errors=checkify.float_checks,
      )
    )(z)
    self.assertIsNone(error.get())
