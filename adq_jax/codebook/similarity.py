"""By what a codeword is the nearest of a point.

Shapes: D the width of points and codewords.
"""

import abc
import dataclasses
from typing import Any

import jax

from adq_jax import options
from adq_jax import sphere


class AbstractSimilarity(options.Option, abc.ABC):
  """What a slot `similarity` takes: a frozen dataclass.

  A search is for the codeword at the least squared distance.  This says where
  the points and the vectors of a codebook lie when they are compared.
  """

  @abc.abstractmethod
  def compared(self, vectors: jax.Array) -> jax.Array:
    """Returns vectors float32 `[..., D]` as they are compared.

    It works row by row, so that a shard of the vectors gives a shard.
    """

  def check_width(self, embedding_dim: int) -> None:
    """Raises a ValueError unless vectors can have the width D."""
    del embedding_dim


@dataclasses.dataclass(frozen=True)
class Euclidean(AbstractSimilarity):
  """Points and vectors are compared where they are.

  As in van den Oord et al., 2017, "Neural Discrete Representation Learning".

  Example:
    >>> from adq_jax import Euclidean, VectorQuantizer
    >>> VectorQuantizer(512, 64).similarity == Euclidean()
    True
  """

  def compared(self, vectors: jax.Array) -> jax.Array:
    """Returns the vectors."""
    return vectors


@dataclasses.dataclass(frozen=True)
class Cosine(AbstractSimilarity):
  """Points and vectors are compared on the unit sphere.

  The nearest codeword there is that of the largest cosine, since
  |u - c|^2 = 2 - 2 cos for unit vectors u and c.  As in Yu et al., 2022,
  "Vector-quantized Image Modeling with Improved VQGAN".

  The codewords are the directions of the codebook's vectors, whatever made
  these: an update, a placement, or who loads them.  A point counts by its
  direction alone, in codes, statistics and losses.  So codewords that learn by
  moving averages move to the direction of the sum of their points' directions.

  Values are codewords, of length 1.  Their gradient goes to the direction of
  the point, and through that to the point, to which it is perpendicular and by
  whose length it is divided.  A point of zeros has no direction: it has some
  code, and no gradient.

  Example:
    >>> import jax.numpy as jnp
    >>> from adq_jax import codebook_from, Cosine, VectorQuantizer
    >>> quantizer = VectorQuantizer(2, 2, similarity=Cosine())
    >>> codebook = codebook_from(jnp.array([[9.0, 0.0], [3.0, 4.0]]))
    >>> variables = {"codebook": codebook.to_collection()}
    >>> result = quantizer.apply(variables, jnp.array([0.1, 0.1]))
    >>> print(result.codes, result.values)
    1 [0.6 0.8]
  """

  def compared(self, vectors: jax.Array) -> jax.Array:
    """Returns the directions of the vectors; zeros stay zeros."""
    # Who reads the directions may not round what makes them in another way.
    return jax.lax.optimization_barrier(sphere.to_sphere(vectors))

  def check_width(self, embedding_dim: int) -> None:
    """Raises a ValueError unless there are more than two directions."""
    if embedding_dim < 2:
      raise ValueError(
        f"embedding_dim is {embedding_dim}; it must be at least 2 where"
        f" similarity is {self!r}, since one number has two directions"
      )


def check_field(similarity: Any, embedding_dim: int) -> None:
  """Raises a ValueError unless a codebook of width D can have it."""
  options.check_option(
    "similarity", similarity, AbstractSimilarity, "Euclidean()"
  )
  similarity.check_width(embedding_dim)
