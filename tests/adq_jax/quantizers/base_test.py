from absl.testing import parameterized
import jax.numpy as jnp

from adq_jax import Quantizer
from adq_jax.quantizers import base


class Bare(Quantizer):
  """A quantizer that defines nothing."""


class QuantizerTest(parameterized.TestCase):
  def test_what_a_quantizer_may_leave_out_has_a_default(self):
    quantizer = Bare()
    quantizer.check()
    self.assertIsNone(quantizer.axis_name)
    self.assertIsNone(quantizer.sent(0, ()))
    self.assertIsNone(quantizer.decoding_fields)
    self.assertFalse(quantizer.draws)
    self.assertEqual(quantizer.sharded_size, 0)
    self.assertEqual(quantizer.spatial_axes, 0)

  @parameterized.parameters(
    ("streams", lambda q: q.streams),
    ("to_streams", lambda q: q.to_streams(None)),
    ("from_streams", lambda q: q.from_streams(())),
    ("__call__", lambda q: q.apply({}, jnp.ones(3))),
    ("encode", lambda q: q.apply({}, jnp.ones(3), method="encode")),
    ("decode", lambda q: q.apply({}, jnp.ones(3), method="decode")),
  )
  def test_what_it_must_define_is_named(self, name, use):
    with self.assertRaisesRegex(NotImplementedError, f"Bare.{name}"):
      use(Bare())


class InputsTest(parameterized.TestCase):
  @parameterized.parameters(
    (jnp.ones((2, 4)), None, "z has shape .* must be 3, the features"),
    (jnp.ones((2, 3), int), None, "z has dtype int32"),
    (jnp.ones(3), None, "z has shape .* at least 2 axes"),
    (jnp.ones((2, 3)), jnp.ones((2, 3)), "mask has shape"),
    (jnp.ones((2, 3)), jnp.full(2, 2.0), "mask has the value 2.0"),
  )
  def test_what_does_not_fit_is_named(self, z, mask, message):
    with self.assertRaisesRegex(ValueError, message):
      base.check_inputs(z, mask, 3, "the features", min_rank=2)

  def test_what_fits(self):
    base.check_inputs(jnp.ones((2, 3)), jnp.ones(2), 3, "the features")
