"""Projections into the space of the codewords, and back."""

import flax.linen as nn
import jax
import jax.numpy as jnp


def make(features: int, kernel: int = 1) -> nn.Module:
  """Returns a projection to a width, which starts as part of the identity.

  Args:
    features: the width.
    kernel: side of the convolution that it is; 1 for a dense layer.
  """
  # Float32 in full: a TPU would round to bfloat16 just before the search.
  common = {"precision": jax.lax.Precision.HIGHEST, "kernel_init": _identity}
  if kernel == 1:
    return nn.Dense(features, **common)
  return nn.Conv(features, (kernel, kernel), **common)


def _identity(key: jax.Array, shape: tuple[int, ...], dtype) -> jax.Array:
  """Initializes a kernel to the identity on the leading features.

  So all codebooks of a pool start from one basis.  With random projections each
  has a basis of its own, and a decoder learns all of them more slowly.
  """
  del key
  *sides, rows, columns = shape  # sides of a convolution's kernel, if it is one
  centre = tuple(side // 2 for side in sides)
  eye = jnp.eye(rows, columns, dtype=dtype)
  return jnp.zeros(shape, dtype).at[centre].set(eye)
