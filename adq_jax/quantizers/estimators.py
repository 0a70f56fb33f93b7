"""What gives quantized values a gradient, since they have none of their own.

Shapes: T points, D their width.
"""

import abc
import dataclasses

import jax

from adq_jax import options


class AbstractEstimator(options.Option, abc.ABC):
  """What a slot `estimator` takes: a frozen dataclass."""

  @abc.abstractmethod
  def estimate(self, quantized: jax.Array, points: jax.Array) -> jax.Array:
    """Returns the quantized points to the bit, with a gradient to the points.

    Args:
      quantized: the codewords of points, float32 `[T, D]`; no gradient goes to
        them.
      points: float32 `[T, D]`, finite.
    """


@dataclasses.dataclass(frozen=True)
class StraightThrough(AbstractEstimator):
  """Gives points the gradient of their codewords as it is.

  As in section 2.1, and in van den Oord et al., 2017, "Neural Discrete
  Representation Learning", section 3.2.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from adq_jax import StraightThrough
    >>> quantized = jnp.array([[1.0, 1.0]])
    >>> estimate = StraightThrough().estimate
    >>> gradient = jax.grad(lambda x: estimate(quantized, x)[0, 0] * 3)
    >>> print(gradient(jnp.array([[0.9, 1.2]])))
    [[3. 0.]]
  """

  def estimate(self, quantized: jax.Array, points: jax.Array) -> jax.Array:
    """Returns the quantized points, with the gradient of the identity."""
    return straight_through(jax.lax.stop_gradient(quantized), points)


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
