from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

from adq_jax import check_replicated
from adq_jax import Placement
from adq_jax import VectorQuantizer


def on_devices(copies):
  """An array of a mesh of all devices, which have these copies of it."""
  mesh = jax.make_mesh((len(copies),), ("i",))
  return jax.make_array_from_single_device_arrays(
    copies[0].shape,
    jax.NamedSharding(mesh, jax.P()),
    [
      jax.device_put(x, device)
      for x, device in zip(copies, mesh.devices.flat, strict=True)
    ],
  )


class CheckReplicatedTest(parameterized.TestCase):
  def test_keys_that_differ_between_devices_are_found(self):
    quantizer = VectorQuantizer(
      4, 2, placement=Placement(init="data"), axis_name="i"
    )
    z = jax.random.normal(jax.random.key(0), (8, 6, 2))
    variables = quantizer.init(jax.random.key(1), z[0])

    def step(key, z):
      _, state = quantizer.apply(
        variables, z, train=True, mutable=["codebook"], rngs={"codebook": key}
      )
      return state

    step = jax.pmap(step, "i")
    keys = jax.random.split(jax.random.key(2), 8)
    check_replicated(step(keys[np.zeros(8, int)], z))
    state = step(keys, z)
    with self.assertRaisesRegex(
      ValueError,
      r"^codebook/embedding differs between .*0 and .*1 \(2 of 4 arrays"
      " differ.*rngs are the same on all devices",
    ):
      check_replicated(state)

  @parameterized.parameters(
    (np.float32(1), np.nextafter(np.float32(1), np.float32(2))),
    (np.float32(0), np.float32(-0.0)),
    (np.ones((), jnp.bfloat16), 1.0078125),
    (np.bool_(True), False),
  )
  def test_a_single_bit_on_a_single_device(self, value, other):
    copies = [np.full((2, 3), value) for _ in range(8)]
    same = on_devices(copies)
    check_replicated({"a": same, "b": [same]})
    copies[5] = copies[5].copy()  # what the device has may be this memory
    copies[5][1, 2] = other
    with self.assertRaisesRegex(
      ValueError, r"^b/0 differs between .*0 and .*5 \(1 of 2 arrays differ\)"
    ):
      check_replicated({"a": same, "b": [on_devices(copies)]})

  def test_copies_of_each_part(self):
    mesh = jax.make_mesh((4, 2), ("data", "model"))
    x = np.full((8, 3), np.nan, np.float32)
    for spec in (jax.P("data"), jax.P(("data", "model")), jax.P()):
      check_replicated(jax.device_put(x, jax.NamedSharding(mesh, spec)))

    def spread(x):
      return x + jax.lax.axis_index("model")

    halves = jax.shard_map(
      spread,
      mesh=mesh,
      in_specs=jax.P("data"),
      out_specs=jax.P("data"),
      check_vma=False,
    )(jax.device_put(jnp.zeros(4), jax.NamedSharding(mesh, jax.P("data"))))
    with self.assertRaisesRegex(ValueError, "^tree differs between"):
      check_replicated(halves)

  def test_random_keys_and_what_is_no_array(self):
    split = jax.pmap(lambda i: jax.random.fold_in(jax.random.key(0), i))
    check_replicated({"key": split(jnp.zeros(8, int)), "none": None})
    with self.assertRaisesRegex(ValueError, "^key differs"):
      check_replicated({"key": split(jnp.arange(8))})
    with self.assertRaisesRegex(ValueError, "^step is a ndarray; it must be"):
      check_replicated({"step": np.zeros(8)})
