"""Encodes and decodes FOLDER/images.npy where only jax is installed.

`export_tokenizer.py` wrote the tokenizer to FOLDER.  Jax reads it with
flatbuffers.
"""

import pathlib
import sys

import jax
from jax import export
import numpy as np

folder = pathlib.Path(sys.argv[1])


def read(name):
  data = bytearray((folder / name).read_bytes())
  return jax.jit(export.deserialize(data).call)


streams = read("encode")(np.load(folder / "images.npy"))
np.savez(folder / "streams.npz", *streams)
np.save(folder / "decoded.npy", read("decode")(streams))
