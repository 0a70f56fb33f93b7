"""What all quantizers share: their result, and their way past the argmin."""

from typing import Any

import flax
import jax
import jax.numpy as jnp

from adq_jax import checks


@flax.struct.dataclass
class Quantized:
  """What a quantizer makes of z `[..., C]`.

  Attributes:
    values: the quantized z, with the gradient of the straight-through
      estimator; shape and dtype of z.
    codes: the choice of every point, which `decode` turns into `values`:
      int32 `[...]`, or a structure of such arrays.
    loss: float32 `[]`, the codebook term, where it reaches a parameter, plus
      commitment_cost times the commitment term.
    metrics: float32 arrays by name; each quantizer says which.
  """

  values: jax.Array
  codes: Any
  loss: jax.Array
  metrics: dict[str, jax.Array]


def straight_through(value: jax.Array, like: jax.Array) -> jax.Array:
  """Returns `value` to the bit, with the gradient of both arguments."""
  return value + (like - jax.lax.stop_gradient(like))


def check_inputs(
  z: jax.Array,
  mask: jax.Array | None,
  width: int,
  why: str,
  min_rank: int = 1,
) -> None:
  """Raises a ValueError unless z is `[..., width]` and mask fits it."""
  checks.check_floating("z", z, min_rank=min_rank)
  checks.check_width("z", z, width, why)
  if mask is not None:
    checks.check_shape("mask", mask, z.shape[:-1], "one weight for each point")


def masked_mean(
  x: jax.Array, mask: jax.Array | None, axis_name: str | None = None
) -> jax.Array:
  """The mean of x `[T]` over the real points, 0 where there is none.

  Args:
    x: float32 `[T]`.
    mask: 1 for a real point, `[T]`.
    axis_name: the mapped axis over which the batch is spread.  The results'
      mean over its devices is the mean over all real points of the batch,
      however these are spread, and so are the gradients'.
  """
  if mask is None:
    return x.sum() / max(x.size, 1)
  num_real = mask.astype(jnp.float32).sum()
  if axis_name is not None:
    num_real = jax.lax.pmean(num_real, axis_name)
  # Not a product: padding may hold NaN.
  total = jnp.where(mask > 0, x, 0.0).sum()
  return total / jnp.where(num_real > 0, num_real, 1.0)
