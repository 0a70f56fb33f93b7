"""The codes of an adaptive quantizer.

Shapes: m codebooks, N_i codewords in each.
"""

from collections.abc import Sequence
from typing import Any

import flax
import jax
import jax.numpy as jnp

from adq_jax import checks
from adq_jax.quantizers import units
from adq_jax.serialization import serializable


@serializable
@flax.struct.dataclass
class AdaptiveCodes:
  """The codes of an adaptive quantizer.

  Attributes:
    book: the codebook that a point uses, int32 `[...]`, in [0, m).
    index: the codeword within it, int32 `[...]`, in [0, N_book).  Where
      decoding needs more than that (see `AdaptiveQuantizer.all_indices`), the
      codeword in each codebook, int32 `[..., m]`.
  """

  book: jax.Array
  index: jax.Array


def make(
  book: jax.Array, indices: Sequence[jax.Array], all_indices: bool
) -> AdaptiveCodes:
  """Returns codes.

  Args:
    book: the codebook that a point uses, int32 `[...]`.
    indices: in every codebook, int32 `[...]`.
    all_indices: whether decoding a point takes several of them.
  """
  if all_indices:
    return AdaptiveCodes(book, jnp.stack(indices, axis=-1))
  return AdaptiveCodes(book, units.pick(book, indices))


def check(codes: Any, num_codebooks: int, all_indices: bool) -> None:
  """Raises a ValueError unless they are codes of such a quantizer."""
  if not isinstance(codes, AdaptiveCodes):
    raise ValueError(
      f"codes is a {type(codes).__name__}; it must be AdaptiveCodes(book,"
      " index), as encode returns them"
    )
  checks.check_integer("codes.book", codes.book)
  checks.check_integer("codes.index", codes.index)
  if all_indices:
    shape = (*codes.book.shape, num_codebooks)
    why = "an index for each codebook"
  else:
    shape, why = codes.book.shape, "that of codes.book"
  checks.check_shape("codes.index", codes.index, shape, why)
