"""Projections into the space of the codewords, and back.

Shapes: C features of z, T points, D the width of the codewords.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from adq_jax import checks
from adq_jax import initial
from adq_jax import masks


def make_pair(
  features: int,
  embedding_dim: int,
  *,
  output_kernel: int = 1,
  init: str = "identity",
) -> tuple[nn.Module, nn.Module]:
  """Returns the projections C -> D and D -> C.

  Args:
    features: C.
    embedding_dim: D.
    output_kernel: side of the convolution that the second is; 1 for a dense
      layer.
    init: the initial values of both, as of `check_init`.
  """
  return (
    _make(features, embedding_dim, 1, init),
    _make(embedding_dim, features, output_kernel, init),
  )


def check_init(field: str, init: str) -> None:
  """Raises a ValueError unless projections can start so.

  Args:
    field: the name of the option.
    init: `"identity"`, part of the identity and no bias; or `"pytorch"`,
      random kernels and biases as PyTorch has them.
  """
  checks.check_choice(field, init, tuple(_INITS))


def check_kernel(output_kernel: int, features: int | None) -> None:
  """Raises a ValueError unless a projection can have that side.

  Args:
    output_kernel: of the projection D -> C.
    features: C; None without projections.
  """
  checks.check_count("output_kernel", output_kernel)
  if output_kernel != 1 and features is None:
    raise ValueError(
      f"output_kernel is {output_kernel}; without features there is no"
      " projection, so that it must be 1"
    )
  if output_kernel % 2 == 0:
    raise ValueError(
      f"output_kernel is {output_kernel}; it must be odd and positive"
    )


def to_points(
  z: jax.Array,
  mask: jax.Array | None,
  project: Callable[[jax.Array], jax.Array] | None,
) -> tuple[jax.Array, jax.Array]:
  """Returns the points of z, and which of them are finite.

  Args:
    z: floating `[..., C]`.
    mask: 1 for a real point and 0 for padding, `[...]`; None: all are real.
    project: float32 `[T, C]` -> `[T, D]`; None where C is D.

  Returns:
    points float32 `[T, D]`, of which padding, and what is not finite before the
    projection or after it, is zeros; and bool `[T]`.
  """
  z = jnp.asarray(z).astype(jnp.float32)
  is_finite = masks.finite_rows(z)
  is_unmasked = masks.as_bool(mask, z.shape[:-1])
  z = masks.keep(z, is_finite & is_unmasked)
  points, is_finite = z.reshape(-1, z.shape[-1]), is_finite.reshape(-1)
  if project is None:
    return points, is_finite
  points = project(points)
  is_finite &= masks.finite_rows(points)  # large numbers may add up to more
  return masks.keep(points, is_finite), is_finite


def times(x: jax.Array, matrix: jax.Array) -> jax.Array:
  """Returns the product in float32 in full, which a TPU else rounds."""
  return jnp.dot(x, matrix, precision=jax.lax.Precision.HIGHEST)


def from_points(
  points: jax.Array,
  shape: tuple[int, ...],
  project: Callable[[jax.Array], jax.Array] | None,
) -> jax.Array:
  """Returns the values float32 `[..., C]` of points.

  Args:
    points: float32 `[T, D]`.
    shape: `[...]`, T positions in all.
    project: float32 `[..., D]` -> `[..., C]`; None where C is D.
  """
  values = points.reshape(*shape, points.shape[-1])
  return values if project is None else project(values)


def _make(inputs: int, features: int, kernel: int, init: str) -> nn.Module:
  # Float32 in full: a TPU would round to bfloat16 just before the search.
  common = {"precision": jax.lax.Precision.HIGHEST}
  common |= _INITS[init](inputs * kernel**2)
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


# Keyword arguments of a layer, given how many inputs an output has.
_INITS = {
  "identity": lambda fan_in: {"kernel_init": _identity},
  "pytorch": lambda fan_in: {
    "kernel_init": initial.pytorch_kernel(),
    "bias_init": initial.pytorch_bias(fan_in),
  },
}
