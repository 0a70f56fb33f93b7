"""Token files of made-up codes."""

import hashlib

import numpy as np

from adq_jax import Stream
from adq_jax.streams import symbols
from experiments.runs import frequencies
from experiments.tokens import file_header
from experiments.tokens import token_file
from experiments.tokens.chunk import Chunk

POOL = (
  Stream("book", 3, coding="entropy"),
  Stream("index_0", 16),
  Stream("index_1", 100),
  Stream("index_2", 1),
)
ONE = (Stream("index", 7),)
# Streams as hierarchical, scalar and residual quantizers have them.
GRIDS = (Stream("top", 9, stride=2), Stream("bottom", 5))
LEVELS = tuple(
  Stream(f"level_{i}", n, group="levels") for i, n in enumerate((8, 5, 5))
)
DEPTHS = (
  Stream("depth", 3, coding="entropy"),
  Stream("level_0", 4),
  Stream("level_1", 4),
)
START = 14  # bytes before the header


def header(streams=POOL, **fields):
  values = {
    "name": "photo_patches",
    "variant": "adaptive",
    "step": 6,
    "model": "0" * 64,
    "channels": 3,
    "downsampling": 4,
    "num_images": 5,
  }
  return file_header.Header(streams=streams, **{**values, **fields})


def chunks(streams=POOL, height=4, width=6, counts=(4, 1), seed=0):
  """Codes of images; where there is a choice, each position has one index."""
  rng = np.random.default_rng(seed)
  first = 0
  for n in counts:
    codes = []
    for k, stream in enumerate(streams):
      size = n * (height // stream.stride) * (width // stream.stride)
      if k and streams[0].coding == "entropy":
        size = (codes[0] == k - 1).sum()
      codes.append(rng.integers(0, stream.alphabet, size).astype(np.int32))
    names = tuple(f"ä/{first + i}.png" for i in range(n))
    yield Chunk(names, height, width, tuple(codes))
    first += n


def check_same(found, wanted):
  assert found.names == wanted.names
  assert (found.height, found.width) == (wanted.height, wanted.width)
  for a, b in zip(found.codes, wanted.codes, strict=True):
    np.testing.assert_array_equal(a, b)


def fields_of(**fields):
  """A stream as a header has it."""
  usual = {"name": "x", "alphabet": 8, "stride": 1, "coding": "fixed"}
  return {**usual, "group": "", **fields}


def frequencies_of(streams, counts):
  """Frequencies of counts, and what a header says of them."""
  found = frequencies.of_counts(symbols(streams), [counts])
  return found, file_header.Tables(found.sha256, 0, 0)


def write(path, head, written, known=None):
  with open(path, "wb") as file:
    writer = token_file.Writer(file, head, known)
    sizes = [writer.write(chunk) for chunk in written]
    writer.finish()
  return sizes


def rehash(content):
  """Somebody who changes a file can give it the right hash too."""
  return content[:-32] + hashlib.sha256(content[:-32]).digest()
