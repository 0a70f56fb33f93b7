from absl.testing import parameterized
import jax
from jax import export
import jax.numpy as jnp
import numpy as np

from adq_jax.search import kernel

_POINTS = jnp.array([[0.0, 0.1], [3.0, 2.0], [9.0, 9.0], [1.0, 1.0]])
_CODEWORDS = jnp.array([[1.0, 1.0], [0.0, 0.0], [3.0, 3.0]])
_CODES = [1, 2, 2, 0]


class KernelTest(parameterized.TestCase):
  def search(self, points, codewords):
    return kernel.search(points, codewords, platform="tpu")

  def test_elsewhere_it_is_the_scan(self):
    for search in (self.search, jax.jit(self.search)):
      codes = search(_POINTS, _CODEWORDS)
      self.assertEqual((codes.dtype, codes.tolist()), (jnp.int32, _CODES))

  @parameterized.parameters((0, None), (None, 0), (1, 2))
  def test_vmap(self, of_points, of_codewords):
    def batched(x, axis):
      if axis is None:
        return x, [x, x]
      both = [x, x + 2.0]
      return jnp.stack(both, axis=axis), both

    points, each_points = batched(_POINTS, of_points)
    codewords, each_codewords = batched(_CODEWORDS, of_codewords)
    found = jax.vmap(self.search, (of_points, of_codewords))(points, codewords)
    np.testing.assert_array_equal(
      found, list(map(self.search, each_points, each_codewords))
    )

  @parameterized.parameters(
    ("tpu", ("cpu", "cuda", "tpu"), "tpu_custom_call"),
    ("tpu", ("tpu",), "tpu_custom_call"),
    ("tpu", ("cpu", "cuda"), None),
    ("gpu", ("cpu", "tpu"), None),
  )
  def test_a_kernel_is_lowered_for_its_platform_alone(
    self, platform, platforms, call
  ):
    search = jax.jit(lambda *arrays: kernel.search(*arrays, platform=platform))
    traced = search.trace(_POINTS, _CODEWORDS)
    text = traced.lower(lowering_platforms=platforms).as_text()
    found = [name for name in ("tpu_custom_call", "triton") if name in text]
    self.assertEqual(found, [call] if call else [])

  def test_it_is_exported_for_several_platforms(self):
    build = export.export(jax.jit(self.search), platforms=("cpu", "tpu"))
    exported = build(_POINTS, _CODEWORDS)
    self.assertEqual(exported.call(_POINTS, _CODEWORDS).tolist(), _CODES)

  @parameterized.parameters("jit", "shard_map", "one of two axes")
  def test_a_program_over_devices_has_it_where_each_has_its_own(self, way):
    mesh = jax.make_mesh(
      (4, 2), ("data", "model"), axis_types=(jax.sharding.AxisType.Auto,) * 2
    )
    search, axes = self.search, ("data", "model")
    if way == "one of two axes":
      axes = ("data",)
    specs = jax.P(axes)
    if way != "jit":
      search = jax.shard_map(
        search,
        mesh=mesh,
        in_specs=(specs, jax.P()),
        out_specs=specs,
        axis_names=set(axes),
      )
    points = jax.device_put(
      jnp.tile(_POINTS, (2, 1)), jax.NamedSharding(mesh, specs)
    )
    codewords = jax.device_put(_CODEWORDS, jax.NamedSharding(mesh, jax.P()))
    self.assertEqual(jax.jit(search)(points, codewords).tolist(), 2 * _CODES)
    traced = jax.jit(search).trace(points, codewords)
    text = traced.lower(lowering_platforms=("tpu",)).as_text()
    self.assertEqual("tpu_custom_call" in text, way == "shard_map")
