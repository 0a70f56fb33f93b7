"""What codewords are made of.

Shapes: N codewords, D their width.
"""

import abc
from collections.abc import Callable
import dataclasses
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from adq_jax import checks
from adq_jax import initial
from adq_jax import options


class AbstractCodewords(options.Option, abc.ABC):
  """What a slot `codewords` takes: a frozen dataclass.

  A codebook keeps N vectors, in its state or as a parameter.  This says how the
  codewords, to which points are compared, come from them.

  Attributes:
    has_parameters: whether parameters make the codewords.  They learn by
      gradients, and no vector is put where a point is: an average of points or
      a placement would be of codewords.
  """

  has_parameters: ClassVar[bool] = False

  @abc.abstractmethod
  def make(self, embedding_dim: int) -> Callable[[jax.Array], jax.Array]:
    """Returns a function of the vectors; a Flax module where it has parameters.

    Args:
      embedding_dim: D.

    Returns:
      Vectors float32 `[N, D]` -> codewords float32 `[N, D]`.  It works row by
      row, so that a shard of the vectors gives a shard of the codewords.
    """


@dataclasses.dataclass(frozen=True)
class FreeCodewords(AbstractCodewords):
  """Codewords that are the vectors themselves: N of them, each free to move.

  As in van den Oord et al., 2017, "Neural Discrete Representation Learning".

  Example:
    >>> from adq_jax import FreeCodewords, VectorQuantizer
    >>> VectorQuantizer(512, 64).codewords == FreeCodewords()
    True
  """

  def make(self, embedding_dim: int) -> Callable[[jax.Array], jax.Array]:
    """Returns the identity."""
    del embedding_dim
    return lambda vectors: vectors


@dataclasses.dataclass(frozen=True)
class LinearCodewords(AbstractCodewords):
  """Codewords that one learned linear map makes of all vectors.

  As in Zhu et al., 2024, "Addressing Representation Collapse in Vector
  Quantized Models with One Linear Layer" (SimVQ), arXiv 2411.02038.  Of free
  codewords only those learn that points choose, and the others are left behind.
  With the codewords F W + b, every gradient reaches W, and moves all of them.

  The vectors F `[N, D]` stay as they are with `update=FrozenUpdate()`, as in
  the paper; they learn too with `GradientUpdate()`.  The map starts as
  PyTorch's linear layers do, so that the first codewords are short: their
  numbers have a standard deviation of about 1 / sqrt(3 D) from F, and as much
  from b.  W collects the gradients of all points: users report that it needs a
  warm-up of the learning rate, or clipping.

  Codes decode to codewords, and not to rows of F.  No codeword can be placed
  alone.  A codebook that is shared out between devices is refused, as all of
  them would have to add up the map's gradient.

  Example:
    >>> import jax
    >>> from adq_jax import FrozenUpdate, LinearCodewords, VectorQuantizer
    >>> quantizer = VectorQuantizer(
    ...   512, 64, update=FrozenUpdate(), codewords=LinearCodewords()
    ... )
    >>> z = jax.random.normal(jax.random.key(0), (8, 64))
    >>> variables = quantizer.init(jax.random.key(1), z)
    >>> variables["params"]["to_codewords"]["linear"]["kernel"].shape
    (64, 64)
    >>> variables["codebook"]["embedding"].shape
    (512, 64)
  """

  has_parameters: ClassVar[bool] = True

  def make(self, embedding_dim: int) -> Callable[[jax.Array], jax.Array]:
    """Returns the map, a Flax module."""
    return _Linear(embedding_dim)


@dataclasses.dataclass(frozen=True)
class AffineCodewords(AbstractCodewords):
  """Codewords that share a learned scale and a learned offset.

  As in Huh et al., 2023, "Straightening Out the Straight-Through Estimator",
  arXiv 2305.08842.  Where an encoder moves all of its points, free codewords
  follow one by one, as they are chosen.  With the codewords s c + b, where
  s = 1 + L s0 and b = L b0 are `[D]` and start at 1 and 0, all of them follow.

  Here s and b learn by the codebook term, so `update` is a `GradientUpdate`.
  The authors' code can also take both from moving statistics; this cannot.

  Attributes:
    rate: L, positive: by how much more than a codeword s and b move; 10 in the
      authors' README, 2 in their example.

  Example:
    >>> from adq_jax import AffineCodewords, GradientUpdate, VectorQuantizer
    >>> VectorQuantizer(
    ...   512, 64, update=GradientUpdate(), codewords=AffineCodewords()
    ... ).codewords
    AffineCodewords(rate=10.0)
  """

  rate: float = 10.0

  has_parameters: ClassVar[bool] = True

  def check(self) -> None:
    """Raises a ValueError, "FIELD is X; it must be Y", if one does not fit."""
    checks.check_at_least("rate", self.rate, 0)
    if not self.rate:
      raise ValueError("rate is 0; it must be positive, or codewords be free")

  def make(self, embedding_dim: int) -> Callable[[jax.Array], jax.Array]:
    """Returns the map, a Flax module."""
    return _Affine(embedding_dim, self.rate)


class _Linear(nn.Module):
  """Vectors `[N, D]` -> codewords `[N, D]`, times a matrix."""

  width: int

  def setup(self):
    self.linear = nn.Dense(
      self.width,
      kernel_init=initial.pytorch_kernel(),
      bias_init=initial.pytorch_bias(self.width),
      # Float32 in full, as codewords are compared.
      precision=jax.lax.Precision.HIGHEST,
    )

  def __call__(self, vectors: jax.Array) -> jax.Array:
    # Who reads the codewords may not round what makes them in another way.
    return jax.lax.optimization_barrier(self.linear(vectors))


class _Affine(nn.Module):
  """Vectors `[N, D]` -> codewords `[N, D]`, times numbers and plus numbers."""

  width: int
  rate: float

  def setup(self):
    zeros = nn.initializers.zeros
    self.scale = self.param("scale", zeros, (self.width,), jnp.float32)
    self.offset = self.param("offset", zeros, (self.width,), jnp.float32)

  def __call__(self, vectors: jax.Array) -> jax.Array:
    scale = 1 + self._at_rate(self.scale)
    # A product that is added to may be rounded or not, as a compiler likes.
    scaled = jax.lax.optimization_barrier(vectors * scale[None])
    return jax.lax.optimization_barrier(
      scaled + self._at_rate(self.offset)[None]
    )

  def _at_rate(self, x: jax.Array) -> jax.Array:
    return jax.lax.optimization_barrier(self.rate * x.astype(jnp.float32))
