"""Cuts a codebook over eight devices; the codes are those of one device."""

import jax
import numpy as np

from adq_jax import VectorQuantizer


def run(codebook_size: int) -> None:
  """Encodes and trains with whole and with cut codewords, and compares."""
  quantizer = VectorQuantizer(codebook_size, 16)
  z = jax.random.normal(jax.random.key(0), (64, 32, 16))
  whole = jax.jit(quantizer.init)(jax.random.key(1), z)

  @jax.jit
  def step(variables, z):
    result, updated = quantizer.apply(
      variables, z, train=True, mutable=["codebook"]
    )
    return result.codes, updated

  # The quantizer says nothing about devices: the arrays do.  Each device has
  # its codewords, and its part of the batch.
  mesh = jax.make_mesh((jax.device_count(),), ("devices",))
  along_first = jax.NamedSharding(mesh, jax.P("devices"))
  on_all = jax.NamedSharding(mesh, jax.P())
  places = jax.tree.map(lambda x: along_first if x.ndim else on_all, whole)
  cut = jax.device_put(whole, places)
  batch = jax.device_put(z, along_first)

  # Told where results belong, the compiler leaves each part on its device.  For
  # the search it gathers the codewords; `shard_codebook`, which does not, is in
  # docs/scaling.md.
  step_of_parts = jax.jit(step, out_shardings=(along_first, places))
  codes, cut = step_of_parts(cut, batch)
  expected, whole = step(whole, z)

  embedding = cut["codebook"]["embedding"]
  shard = embedding.addressable_shards[0]
  print(f"{shard.device} holds {shard.data.shape} of {embedding.shape}")
  print(f"the codes are the same: {bool((codes == expected).all())}")
  # Sums over points may be rounded in another order.
  close = np.allclose(embedding, whole["codebook"]["embedding"], atol=1e-5)
  print(f"the codewords have moved alike: {close}")


if __name__ == "__main__":
  # On a machine without accelerators, eight devices of its CPU.
  jax.config.update("jax_num_cpu_devices", 8)
  run(codebook_size=2**14)
