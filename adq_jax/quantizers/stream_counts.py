"""How often each code of a stream is sent, as the state of a quantizer.

Shapes: A codes of the stream.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from adq_jax.codebook.state import check_dtypes
from adq_jax.codebook.statistics import check_statistics
from adq_jax.codebook.statistics import Statistics
from adq_jax.codebook.updates import average
from adq_jax.quantizers.collection import COLLECTION


class StreamCounts:
  """The moving average of how often each code is sent, a module's variable.

  It makes it in the module's `setup`.  It is for a stream that no codebook
  counts, such as that of a choice.
  """

  def __init__(self, module: nn.Module, stream: str, size: int, decay: float):
    """Makes the variable where there is none yet.

    Args:
      module: whose variable it is.
      stream: its name, which is that of the stream.
      size: A.
      decay: gamma of the moving average, in [0, 1).
    """
    self._stream = stream
    self._size = size
    self._decay = decay
    self._counts = None  # of variables that were made without a price
    if module.has_variable(COLLECTION, stream) or module.is_mutable_collection(
      COLLECTION
    ):
      self._counts = module.variable(
        COLLECTION, stream, jnp.ones, size, jnp.float32
      )

  def values(self) -> jax.Array:
    """Returns the average, float32 `[A]`; before the first step, ones."""
    if self._counts is None:
      return jnp.ones(self._size, jnp.float32)
    return self._counts.value

  def update_codebook(self, statistics: Statistics) -> None:
    """Moves the average, which has to be mutable, as a training step does.

    Args:
      statistics: how often each code is sent; without sums.
    """
    check_dtypes({self._stream: self._counts.value})
    check_statistics(statistics, self._size, None)
    self._counts.value = average(
      self._counts.value, statistics.counts, self._decay
    )
