"""What Flax and JAX make of quantizers: see also the contract of each."""

import dataclasses
import pathlib

from absl.testing import parameterized
import chex
import flax.linen as nn
import jax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec
import numpy as np
import orbax.checkpoint as ocp
import pytest

from adq_jax import AdaptiveQuantizer
from adq_jax import VectorQuantizer
from adq_jax import VQVAE
from tests.support.small import make_variables
from tests.support.small import RNGS

_Z = jax.random.normal(jax.random.key(0), (2, 10, 4))


def _step(quantizer, **train):
  return jax.jit(
    lambda variables, z: quantizer.apply(
      variables, z, mutable=["codebook"], rngs=RNGS, **train
    )
  )


def _is_moved(before, after):
  same = jax.tree.map(np.array_equal, before["codebook"], after["codebook"])
  return not all(jax.tree.leaves(same))


class ClassesTest(parameterized.TestCase):
  """Flax's transformations of a class, which drop or trace its keywords."""

  def make(self, kind, quantizer):
    """A quantizer of a transformed class, which a field trains."""
    fields = {
      field.name: getattr(quantizer, field.name)
      for field in dataclasses.fields(quantizer)
      if field.name not in ("parent", "name")
    }
    return kind(**{**fields, "train": True})

  def test_a_class_that_is_computed_again_or_jitted_trains(self):
    quantizer = VectorQuantizer(6, 4)
    variables = make_variables(quantizer, _Z[0])
    expected = _step(quantizer, train=True)(variables, _Z[0])
    self.assertTrue(_is_moved(variables, expected[1]))
    for transform in (nn.remat, nn.jit):
      other = self.make(transform(VectorQuantizer), quantizer)
      found = _step(other)(variables, _Z[0])
      chex.assert_trees_all_close(found, expected, rtol=1e-5, atol=1e-6)

  def test_a_mapped_class_trains(self):
    quantizer = AdaptiveQuantizer(((6, 3), (4, 2)), 4)
    variables = make_variables(quantizer, _Z[0])
    kind = nn.vmap(
      AdaptiveQuantizer, variable_axes={True: 0}, split_rngs={True: False}
    )
    stacked = jax.tree.map(lambda x: np.stack([x, x]), variables)
    found, after = _step(self.make(kind, quantizer))(stacked, _Z)
    step = _step(quantizer, train=True)
    for i, z in enumerate(_Z):
      result, state = step(variables, z)
      self.assertTrue(_is_moved(variables, state))
      chex.assert_trees_all_close(
        jax.tree.map(lambda x, i=i: x[i], (found, after)),
        (result, state),
        rtol=1e-5,
        atol=1e-6,
      )

  def test_one_within_a_model_trains(self):
    kind = nn.remat(VectorQuantizer)
    model = VQVAE(kind(6, 3, 8, train=True), network="cnn", features=8)
    plain = VQVAE(VectorQuantizer(6, 3, 8), network="cnn", features=8)
    images = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    variables = jax.jit(plain.init)(jax.random.key(1), images)
    found = _step(model)(variables, images)
    expected = _step(plain, train=True)(variables, images)
    self.assertTrue(_is_moved(variables, found[1]))
    chex.assert_trees_all_close(found, expected, rtol=1e-5, atol=1e-6)


class CheckpointsTest(parameterized.TestCase):
  def test_orbax_restores_a_state_on_other_devices(self):
    variables = make_variables(VectorQuantizer(8, 4), _Z[0])

    def spread(x, count):
      mesh = jax.make_mesh((count,), ("data",), devices=jax.devices()[:count])
      axes = ("data",) if x.ndim else ()
      return jax.device_put(x, NamedSharding(mesh, PartitionSpec(*axes)))

    path = pathlib.Path(self.create_tempdir()) / "variables"
    wanted = jax.tree.map(lambda x: spread(x, 2), variables)
    with ocp.StandardCheckpointer() as checkpointer:
      checkpointer.save(path, jax.tree.map(lambda x: spread(x, 8), variables))
      checkpointer.wait_until_finished()
      found = checkpointer.restore(
        path, jax.tree.map(ocp.utils.to_shape_dtype_struct, wanted)
      )
    chex.assert_trees_all_equal(found, variables)
    for one, other in zip(
      jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True
    ):
      self.assertEqual(one.sharding, other.sharding)


class DerivativesTest(parameterized.TestCase):
  def test_second_derivatives_are_those_of_the_mean_squared_error(self):
    quantizer = VectorQuantizer(6, 4, commitment_cost=0.5)
    z = _Z[0, :2]
    variables = make_variables(quantizer, z)

    def loss(z):
      return quantizer.apply(variables, z).loss

    hessian = jax.jit(jax.hessian(loss))(z).reshape(8, 8)
    # 0.5 times the mean of 8 squares.
    np.testing.assert_allclose(hessian, np.eye(8) * 0.5 * 2 / 8, atol=1e-6)


class WithoutJitTest(parameterized.TestCase):
  @pytest.mark.slow
  def test_a_step_is_what_it_is_with_it(self):
    quantizer = VectorQuantizer(6, 4)
    z = _Z[0, :3]
    variables = make_variables(quantizer, z)
    expected = _step(quantizer, train=True)(variables, z)
    with jax.disable_jit():
      found = _step(quantizer, train=True)(variables, z)
    chex.assert_trees_all_close(found, expected, rtol=1e-5, atol=1e-6)
