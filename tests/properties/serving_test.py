"""Encode and decode are exported, and need only jax where they are called."""

import pathlib

from absl.testing import parameterized
import chex
import jax
from jax import export
import jax.numpy as jnp
import numpy as np
import pytest

from adq_jax import VectorQuantizer
from tests.support import only_jax
from tests.support.cases import CASES
from tests.support.small import bits
from tests.support.small import make_variables

_PLATFORMS = ("cpu", "cuda", "tpu")
_READ = """
import jax
import numpy as np

for name in {names}:
  found = np.load(name + ".npz")
  streams = [found[key] for key in sorted(found) if key.startswith("stream")]
  read = lambda way: jax.export.deserialize(
    bytearray(open(name + way, "rb").read())
  ).call
  for own, expected in zip(read(".encode")(found["z"]), streams, strict=True):
    np.testing.assert_array_equal(own, expected)
  values = read(".decode")(tuple(streams))
  np.testing.assert_array_equal(
    np.asarray(values).view(np.int32), found["values"].view(np.int32)
  )
"""


def _functions(case):
  """Encode to streams and decode from them, jitted; and points."""
  quantizer = case.quantizer
  z = jax.random.normal(jax.random.key(5), (3, 4, 4, case.width), jnp.float32)
  variables = make_variables(quantizer, z)

  def encode(z):
    codes = quantizer.apply(variables, z, method="encode")
    return quantizer.to_streams(codes)

  def decode(streams):
    codes = quantizer.from_streams(streams)
    return quantizer.apply(variables, codes, method="decode")

  return jax.jit(encode), jax.jit(decode), z


def _exported(encode, decode, z, first):
  """Both, exported for a batch whose first axis may be symbolic."""
  shape = export.symbolic_shape(", ".join(map(str, (first, *z.shape[1:]))))
  points = jax.ShapeDtypeStruct(shape, z.dtype)
  streams = jax.eval_shape(encode, points)
  return (
    export.export(encode, platforms=_PLATFORMS)(points),
    export.export(decode, platforms=_PLATFORMS)(streams),
  )


def _check(name, first):
  encode, decode, z = _functions(CASES[name])
  exported = _exported(encode, decode, z, first)
  streams = exported[0].call(z)
  chex.assert_trees_all_equal(streams, encode(z))
  values = exported[1].call(streams)
  chex.assert_trees_all_equal(bits(values), bits(decode(streams)))


class ServingTest(parameterized.TestCase):
  @parameterized.parameters("vector", "attention", "residual_priced")
  def test_any_batch_on_any_platform(self, name):
    _check(name, "b")

  @parameterized.product(name=tuple(CASES), first=(3, "b"))
  @pytest.mark.slow
  def test_every_quantizer(self, name, first):
    _check(name, first)

  def test_where_there_is_only_jax(self):
    pytest.importorskip("flatbuffers")  # which jax serializes with
    folder = pathlib.Path(self.create_tempdir().full_path)
    names = ("vector", "attention")
    for name in names:
      encode, decode, z = _functions(CASES[name])
      streams = encode(z)
      values = decode(streams)
      for way, exported in zip(
        ("encode", "decode"), _exported(encode, decode, z, "b"), strict=True
      ):
        (folder / f"{name}.{way}").write_bytes(exported.serialize())
      each = {f"stream_{i}": x for i, x in enumerate(streams)}
      np.savez(folder / f"{name}.npz", z=z, values=values, **each)
    only_jax.run(_READ.format(names=names), folder)

  def test_a_tpu_has_its_kernel(self):
    encode, _, z = _functions(CASES["vector"])
    exported = export.export(encode, platforms=_PLATFORMS)(z)
    self.assertIn("tpu_custom_call", exported.mlir_module())
    exported = export.export(encode, platforms=("cpu", "cuda"))(z)
    self.assertNotIn("tpu_custom_call", exported.mlir_module())

  def test_what_needs_a_known_batch_says_so(self):
    z = jax.ShapeDtypeStruct(export.symbolic_shape("b, 3"), jnp.float32)
    quantizer = VectorQuantizer(20, 3)
    variables = make_variables(quantizer, jnp.zeros((1, 3)))
    with self.assertRaisesRegex(
      ValueError, "there are b points, a symbolic number"
    ):
      jax.eval_shape(lambda z: quantizer.apply(variables, z), z)
    quantizer = VectorQuantizer(20, 3, axis_name="i", shard_codebook=True)
    shards = jax.tree.map(lambda x: x[None], variables)
    for method, given in (
      ("encode", z),
      ("decode", jax.ShapeDtypeStruct(z.shape[:1], jnp.int32)),
    ):
      with self.assertRaisesRegex(
        ValueError, "b points, and the codebook is cut over 'i'; export"
      ):
        jax.eval_shape(
          jax.vmap(
            lambda own, x, method=method: quantizer.apply(
              own, x, method=method
            ),
            in_axes=(0, None),
            axis_name="i",
          ),
          shards,
          given,
        )
