"""Writes a tokenizer for CPUs, GPUs and TPUs, any batch, to a folder.

Where only jax and flatbuffers are installed, it is read and called so:

    def read(name):
      data = (folder / name).read_bytes()
      return jax.jit(jax.export.deserialize(bytearray(data)).call)

    streams = read("encode")(images)
    images = read("decode")(streams)
"""

import pathlib
import sys

import jax
from jax import export
import jax.numpy as jnp

from adq_jax import VectorQuantizer
from adq_jax import VQVAE

model = VQVAE(VectorQuantizer(512, 8), network="cnn", features=8)
example = jnp.zeros((1, 32, 32, 3))
variables = jax.jit(model.init)(jax.random.key(0), example)  # or trained ones


def encode(images):
  return model.to_streams(model.apply(variables, images, method="encode"))


def decode(streams):
  codes = model.from_streams(streams)
  return model.apply(variables, codes, method="decode")


shape = export.symbolic_shape("b, 32, 32, 3")
images = jax.ShapeDtypeStruct(shape, jnp.float32)
streams = jax.eval_shape(encode, images)
for function, argument in ((encode, images), (decode, streams)):
  build = export.export(jax.jit(function), platforms=("cpu", "cuda", "tpu"))
  path = pathlib.Path(sys.argv[1], function.__name__)
  path.write_bytes(build(argument).serialize())
