"""What each group of a product quantizer sees of a point.

Shapes: G groups of width W, T points.
"""

import abc
import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from adq_jax import options
from adq_jax.quantizers import projections

# Uniform, by the numbers of inputs and outputs, of each of G matrices.
_GLOROT = nn.initializers.variance_scaling(
  1.0, "fan_avg", "uniform", in_axis=0, out_axis=2, batch_axis=(1,)
)


class AbstractSplit(options.Option, abc.ABC):
  """What a slot `split` takes: a frozen dataclass."""

  @abc.abstractmethod
  def constants(self, num_groups: int, width: int) -> dict[str, tuple]:
    """Returns what stays as it is initialized, by name: how, and its shape.

    Args:
      num_groups: G.
      width: W.
    """

  @abc.abstractmethod
  def split(
    self, points: jax.Array, constants: dict[str, jax.Array]
  ) -> jax.Array:
    """Returns what groups see, group after group, float32 `[T, G W]`.

    Args:
      points: float32 `[T, G W]`.
      constants: by name.
    """


@dataclasses.dataclass(frozen=True)
class Slices(AbstractSplit):
  """Group g sees the channels from g W on: the sliced form of Kaiser et al.

  Example:
    >>> from adq_jax import ProductQuantizer, VectorQuantizer
    >>> ProductQuantizer(2, VectorQuantizer(16, 3)).split
    Slices()
  """

  def constants(self, num_groups: int, width: int) -> dict[str, tuple]:
    """Returns none."""
    del num_groups, width
    return {}

  def split(
    self, points: jax.Array, constants: dict[str, jax.Array]
  ) -> jax.Array:
    """Returns the points."""
    del constants
    return points


@dataclasses.dataclass(frozen=True)
class RandomProjections(AbstractSplit):
  """Group g sees a random projection of all channels, which stays as it is.

  The projected form of Kaiser et al., 2018, "Fast Decoding in Sequence Models
  Using Discrete Latent Variables", section 3.3: z P_g, where P_g `[G W, W]` is
  Glorot-uniform, in the collection `"constants"`.  So no group depends on how
  the channels lie next to each other.

  There is no way back: values are what groups make of their projections, next
  to each other, and layers after them read that.  With `features`, the
  projection of the quantizer G W -> C is such a layer.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from adq_jax import ProductQuantizer, RandomProjections, VectorQuantizer
    >>> quantizer = ProductQuantizer(
    ...   2, VectorQuantizer(16, 3), split=RandomProjections()
    ... )
    >>> variables = quantizer.init(jax.random.key(0), jnp.zeros((1, 6)))
    >>> variables["constants"]["split"].shape
    (6, 2, 3)
  """

  def constants(self, num_groups: int, width: int) -> dict[str, tuple]:
    """Returns the matrices, `[G W, G, W]`."""
    return {"split": (_GLOROT, (num_groups * width, num_groups, width))}

  def split(
    self, points: jax.Array, constants: dict[str, jax.Array]
  ) -> jax.Array:
    """Returns the projections."""
    matrix = constants["split"].astype(jnp.float32)
    return projections.times(points, matrix.reshape(matrix.shape[0], -1))
