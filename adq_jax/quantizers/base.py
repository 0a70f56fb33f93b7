"""What all quantizers share: their result, and their way past the argmin."""

from typing import Any

import flax
import jax
import jax.numpy as jnp

from adq_jax import checks
from adq_jax import masks


@flax.struct.dataclass
class Quantized:
  """What a quantizer makes of z `[..., C]`.

  Attributes:
    values: the quantized z, with the gradient of the straight-through
      estimator; shape and dtype of z.  In evaluation, without a mask, they are
      `decode(codes)` cast to that dtype, to the bit: for every z, also where it
      is infinite or NaN, and with the sign of zeros.
    codes: the choice of every point, which `decode` turns into `values`:
      int32 `[...]`, or a structure of such arrays.
    loss: float32 `[]`, the codebook term, where it reaches a parameter, plus
      commitment_cost times the commitment term.
    metrics: float32 arrays by name; each quantizer says which.  All have
      `nonfinite_points`, how many points were NaN or infinite and not padding:
      they count in nothing else.
    statistics: in training, what the codebook was, or was to be, updated with:
      `Statistics`, of a pool a tuple of them; None in evaluation.
  """

  values: jax.Array
  codes: Any
  loss: jax.Array
  metrics: dict[str, jax.Array]
  statistics: Any = None


@jax.custom_jvp
def straight_through(value: jax.Array, like: jax.Array) -> jax.Array:
  """Returns `value` to the bit, with the gradient of both arguments."""
  del like
  return value


@straight_through.defjvp
def _(primals, tangents):
  # Not value + (like - stop_gradient(like)), which makes -0.0 of a codeword
  # 0.0, and NaN where `like` is infinite.
  return primals[0], tangents[0] + tangents[1]


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
    checks.check_mask("mask", mask, z.shape[:-1], "one weight for each point")


def masked_mean(
  x: jax.Array, is_real: jax.Array, axis_name: str | None = None
) -> jax.Array:
  """The mean of x `[T]` over the real points, 0 where there is none.

  Args:
    x: float32 `[T]`; for a gradient, finite everywhere.
    is_real: bool `[T]`.
    axis_name: the mapped axis over which the batch is spread.  The results'
      mean over its devices is the mean over all real points of the batch,
      however these are spread, and so are the gradients'.
  """
  num_real = masks.count(is_real)
  if axis_name is not None:
    num_real = jax.lax.pmean(num_real, axis_name)
  total = masks.keep(x, is_real).sum()
  return total / jnp.where(num_real > 0, num_real, 1.0)


def mean_square(
  a: jax.Array,
  b: jax.Array,
  is_real: jax.Array,
  axis_name: str | None = None,
) -> jax.Array:
  """The mean of (a - b)^2 over real points and width.

  Args:
    a: float32 `[..., D]`.
    b: float32 `[..., D]`.
    is_real: bool `[...]`.
    axis_name: as in `masked_mean`.
  """
  # Before the square, whose gradient would be NaN where a or b is.
  difference = masks.keep(a - b, is_real)
  squares = jnp.square(difference).mean(axis=-1)
  return masked_mean(squares.reshape(-1), is_real.reshape(-1), axis_name)
