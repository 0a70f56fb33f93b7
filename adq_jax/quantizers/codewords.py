"""What codewords are made of.

Shapes: N codewords, D their width.
"""

import abc
from collections.abc import Callable
import dataclasses

import jax

from adq_jax import options


class AbstractCodewords(options.Option, abc.ABC):
  """What a slot `codewords` takes: a frozen dataclass.

  A codebook keeps N vectors, in its state or as a parameter.  This says how the
  codewords, to which points are compared, come from them.
  """

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
