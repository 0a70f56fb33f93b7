"""What gives quantized values a gradient, since they have none of their own.

Shapes: T points, D their width.
"""

import abc
import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from adq_jax import checks
from adq_jax import options
from adq_jax import sphere

_SHORTEST = 1e-6  # below, a vector has no direction
_OPPOSITE = 1e-3  # a sum of directions below is mostly rounding


class AbstractEstimator(options.Option, abc.ABC):
  """What a slot `estimator` takes: a frozen dataclass.

  Attributes:
    trains_codewords: whether codewords have a gradient too.  Then they have to
      learn by gradients.
    takes_samples: whether it goes with codes that are sampled, and not those of
      the nearest codewords.
  """

  trains_codewords: ClassVar[bool] = False
  takes_samples: ClassVar[bool] = True

  @abc.abstractmethod
  def estimate(self, quantized: jax.Array, points: jax.Array) -> jax.Array:
    """Returns the quantized points to the bit, with a gradient to the points.

    Args:
      quantized: the codewords of points, float32 `[T, D]`; no gradient goes to
        them, unless it `trains_codewords`.
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


@dataclasses.dataclass(frozen=True)
class RotationTrick(AbstractEstimator):
  """Gives points the gradient of their codewords, turned and scaled.

  As in Fifty et al., 2024, "Restructuring Vector Quantization with the Rotation
  Trick", arXiv 2410.06424.  The straight-through estimator gives all points of
  a codeword one gradient, wherever they lie around it.  Here the codeword q of
  a point z is seen as |q| / |z| R z, where the rotation R turns z to q.  The
  factor and R are constants, so that z has the gradient |q| / |z| R^T G where
  values have G: it has the angle to z that G has to q.

  Three cases have no rotation, or no single one.  A point or a codeword shorter
  than 1e-6 has no direction, and vectors of one number have two: there it is
  the straight-through estimator.  For opposite vectors R is the reflection of
  their line.  Short points have large gradients, by |q| / |z|, so this needs
  points and codewords of similar lengths.  On the sphere, with `Cosine`, they
  are both 1 long.

  Fifty et al. train with moving averages of decay 0.8 and a commitment cost
  of 1.  Users of other libraries report that training diverges where codes are
  sampled, so `SampledCodes` is refused beside it.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from adq_jax import RotationTrick
    >>> quantized = jnp.array([[0.0, 1.0]])
    >>> estimate = RotationTrick().estimate
    >>> gradient = jax.grad(lambda x: estimate(quantized, x)[0, 0])
    >>> print(gradient(jnp.array([[2.0, 0.0]])).round(3))
    [[ 0.  -0.5]]
  """

  takes_samples: ClassVar[bool] = False

  def estimate(self, quantized: jax.Array, points: jax.Array) -> jax.Array:
    """Returns the quantized points, with the gradient of a rotation."""
    quantized = jax.lax.stop_gradient(quantized)
    if points.shape[-1] == 1:
      return straight_through(quantized, points)
    start = jax.lax.stop_gradient(points)
    x, y = sphere.to_sphere(start), sphere.to_sphere(quantized)
    between = x + y
    length = _length(between)
    is_opposite = length < _OPPOSITE
    w = jnp.where(is_opposite, 0.0, between / jnp.maximum(length, _OPPOSITE))
    turned = points - 2 * w * _dot(w, points) + 2 * y * _dot(x, points)
    before, after = _length(start), _length(quantized)
    has_directions = jnp.minimum(before, after) >= _SHORTEST
    scale = after / jnp.maximum(before, _SHORTEST)
    like = jnp.where(has_directions, scale * turned, points)
    return straight_through(quantized, like)


@dataclasses.dataclass(frozen=True)
class Directional(AbstractEstimator):
  """Shares a gradient out between points and codewords, by its direction.

  As in Vali, Bäckström and Solin, 2025, "DiVeQ: Differentiable Vector
  Quantization Using the Reparameterization Trick", arXiv 2509.26469.  A
  codeword q is seen as z + |q - z| u, where the direction u from z to q is a
  constant.  So the codeword has the part of the gradient along u, and the point
  z the part across it.  A point that is its codeword has all of it.

  Nothing else needs to train the codewords or to hold points near them, so use
  it with `update=GradientUpdate(codebook_cost=0)` and `commitment_cost=0`.
  Vectors of one number have nothing across u: there points have no gradient.

  The paper adds small noise to q - z before it takes the direction, so that a
  decoder sees points near a codeword.  Here values are codewords to the bit, as
  those that codes decode to, which is the paper's limit without noise.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from adq_jax import Directional
    >>> points, quantized = jnp.zeros((1, 2)), jnp.array([[3.0, 4.0]])
    >>> estimate = Directional().estimate
    >>> gradient = jax.grad(lambda q, z: estimate(q, z)[0, 0] * 25, (0, 1))
    >>> for each in gradient(quantized, points):
    ...   print(each.round())
    [[ 9. 12.]]
    [[ 16. -12.]]
  """

  trains_codewords: ClassVar[bool] = True

  def estimate(self, quantized: jax.Array, points: jax.Array) -> jax.Array:
    """Returns the quantized points, with the gradient of a length."""
    error = quantized - points
    squares = _dot(error, error)
    is_apart = squares > 0
    # The root has no gradient at 0.
    length = jnp.sqrt(jnp.where(is_apart, squares, 1.0))
    direction = jax.lax.stop_gradient(error / length)
    like = points + direction * jnp.where(is_apart, length, 0.0)
    return straight_through(jax.lax.stop_gradient(quantized), like)


@dataclasses.dataclass(frozen=True)
class Synchronized(AbstractEstimator):
  """Straight-through, with the same gradient for codewords, times a weight.

  As in Huh et al., 2023, "Straightening Out the Straight-Through Estimator",
  arXiv 2305.08842: values are those of `StraightThrough`, plus
  nu (q - sg(q)).  The codewords otherwise follow points that have moved
  already; so they move with these, by what the task wants.  It comes beside the
  codebook term of `GradientUpdate`.

  Attributes:
    weight: nu, 0 or more; 0.2 to 2 in the authors' examples.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from adq_jax import Synchronized
    >>> points, quantized = jnp.zeros((1, 2)), jnp.ones((1, 2))
    >>> estimate = Synchronized(weight=2.0).estimate
    >>> gradient = jax.grad(lambda q, z: estimate(q, z).sum(), (0, 1))
    >>> for each in gradient(quantized, points):
    ...   print(each)
    [[2. 2.]]
    [[1. 1.]]
  """

  weight: float = 1.0

  trains_codewords: ClassVar[bool] = True

  def check(self) -> None:
    """Raises a ValueError, "FIELD is X; it must be Y", if one does not fit."""
    checks.check_at_least("weight", self.weight, 0)

  def estimate(self, quantized: jax.Array, points: jax.Array) -> jax.Array:
    """Returns the quantized points, with the gradient of both."""
    like = points + self.weight * quantized
    return straight_through(jax.lax.stop_gradient(quantized), like)


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


def _dot(a: jax.Array, b: jax.Array) -> jax.Array:
  """Returns the inner products of rows, `[T, 1]`."""
  return (a * b).sum(axis=-1, keepdims=True)


def _length(x: jax.Array) -> jax.Array:
  """Returns the lengths of rows, `[T, 1]`; at 0 their gradient is NaN."""
  return jnp.linalg.norm(x, axis=-1, keepdims=True)
