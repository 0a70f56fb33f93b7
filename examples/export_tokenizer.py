"""Writes a tokenizer for CPUs, GPUs and TPUs, any batch, to a folder."""

import pathlib
import sys

import jax
from jax import export
import jax.numpy as jnp

from adq_jax import VectorQuantizer
from adq_jax import VQVAE

model = VQVAE(VectorQuantizer(512, 8), network="cnn", features=8)
example = jnp.zeros((1, 32, 32, 3))
model = model.bind(jax.jit(model.init)(jax.random.key(0), example))
encode = jax.jit(lambda images: model.to_streams(model.encode(images)))
decode = jax.jit(lambda streams: model.decode(model.from_streams(streams)))

shape = export.symbolic_shape("b, 32, 32, 3")
images = jax.ShapeDtypeStruct(shape, jnp.float32)
streams = jax.eval_shape(encode, images)
functions = {"encode": (encode, images), "decode": (decode, streams)}
for name, (function, given) in functions.items():
  build = export.export(function, platforms=("cpu", "cuda", "tpu"))
  pathlib.Path(sys.argv[1], name).write_bytes(build(given).serialize())
