"""Points and codewords for searches, and searches that are compiled once."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from adq_jax import index_codebook
from adq_jax import nearest_codes

# These mark points that a fallback searched; they are no indices.
WENT_ON, NOTHING = -1, -2
KINDS = (
  "normal",
  "integers",
  "duplicates",
  "equal points",
  "equal codewords",
  "clusters",
  "outliers",
  "far points",
  "not finite",
)


def make_data(num_points, num_codewords, dim, seed=0):
  """Normal points `[T, D]` and codewords `[N, D]`."""
  rng = np.random.default_rng(seed)
  z = rng.normal(size=(num_points, dim)).astype(np.float32)
  codebook = rng.normal(size=(num_codewords, dim)).astype(np.float32)
  return z, codebook


def make_kind(kind, num_points, num_codewords, dim, seed):
  """Returns points and codewords of a kind that may trouble a method."""
  rng = np.random.default_rng(seed)
  z, codebook = make_data(num_points, num_codewords, dim, seed)
  if kind == "integers":  # distances are exact and ties are many
    z = rng.integers(-3, 4, z.shape).astype(np.float32)
    codebook = rng.integers(-3, 4, codebook.shape).astype(np.float32)
    z[::5] *= -1  # some zeros become negative
    codebook[::3] *= -1
  elif kind == "duplicates":
    codebook = codebook[rng.integers(0, 1 + num_codewords // 3, num_codewords)]
  elif kind == "equal points":
    z[:] = z[:1]
  elif kind == "equal codewords":
    codebook[:] = codebook[:1]
  elif kind == "clusters":
    crowded = rng.random(num_codewords) < 0.5
    codebook[crowded] = codebook[0] + 1e-3 * codebook[crowded]
    z[::2] = codebook[0] + 1e-3 * z[::2]
  elif kind == "outliers":
    codebook[rng.random(num_codewords) < 0.1] *= 1e9
    z[rng.random(num_points) < 0.1] *= 1e9
  elif kind == "far points":
    z *= 300 / (np.linalg.norm(z, axis=1, keepdims=True) + 1e-9)
  elif kind == "not finite":
    for array in (z, codebook):
      bad = rng.random(array.shape) < 0.3 / dim
      array[bad] = rng.choice((np.nan, np.inf, -np.inf), bad.sum())
  return z, codebook


@functools.cache
def program(method):
  """Returns `nearest_codes` with a method, compiled once for each shape.

  The method "index" prepares the codewords by `index_codebook` first.
  """
  if method == "index":
    return quickly_compiled(
      lambda z, codebook: nearest_codes(z, index_codebook(codebook))
    )
  search = functools.partial(nearest_codes, method=method)
  return quickly_compiled(search) if method == "cells" else jax.jit(search)


def quickly_compiled(function):
  """Returns a jitted function whose programs are not optimized."""
  # A search in cells is a long program, and optimizing takes seconds.
  options = {"xla_backend_optimization_level": 0}
  return jax.jit(function, compiler_options=options)


def find(z, codebook, method):
  """The indices that a method finds."""
  return np.asarray(program(method)(z, codebook))


def nothing_found(points, codewords, penalty=None):
  """Stands in for the scan, and marks the points that it is called for."""
  del codewords, penalty
  return jnp.full(len(points), NOTHING, jnp.int32)
