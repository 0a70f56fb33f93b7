"""What codes of a pool cost: the choice of a codebook, and an index in it.

Shapes: C features of z, T points, m codebooks, D the width of codewords.
"""

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses

import jax
import jax.numpy as jnp

from adq_jax.options import check_option
from adq_jax.quantizers import price as prices
from adq_jax.quantizers import units
from adq_jax.quantizers import vector
from adq_jax.quantizers.choice import AbstractChoice
from adq_jax.quantizers.stream_counts import StreamCounts
from adq_jax.quantizers.tariff import Tariff

BOOK = "book"
"""The stream of choices."""


def index_stream(i: int) -> str:
  """Returns the name of the stream of a codebook's indices."""
  return f"index_{i}"


def check(
  price: prices.AbstractPrice,
  choice: AbstractChoice,
  selection_unit: str,
  output_kernel: int,
) -> None:
  """Raises a ValueError if a pool cannot have a price.

  Args:
    price: of the pool, as are the others.
    choice: which must be by what a code costs.
    selection_unit: which must leave positions by themselves, as must
    output_kernel: the side of projections.
  """
  check_option("price", price, prices.AbstractPrice, "NoPrice()")
  if not price.is_charged:
    return
  if not choice.needs_values:
    raise ValueError(
      f"choice is {choice!r}; it must be DistortionChoice() where price is"
      f" {price!r}: it looks at no bits"
    )
  if getattr(choice, "rate_weight", 0):
    raise ValueError(
      f"choice is {choice!r}; its rate_weight must be 0 where price is"
      f" {price!r}, which has one of its own"
    )
  if units.is_spread(selection_unit, output_kernel):
    raise ValueError(
      f"price is {price!r}; it must be NoPrice() where selection_unit is"
      f" {selection_unit!r} and output_kernel {output_kernel}: a position then"
      " depends on several indices"
    )


def running_bits(
  price: prices.AbstractPrice,
  sizes: Sequence[jax.Array],
  books: StreamCounts | None,
) -> dict[str, jax.Array]:
  """Returns the bits of all codes by the name of their stream.

  Args:
    price: of the pool.
    sizes: how often the codewords of each codebook are used, float32 `[N_i]`.
    books: how often each codebook is chosen; None where there is one alone.
  """
  bits = {index_stream(i): price.bits(size) for i, size in enumerate(sizes)}
  return (
    bits if books is None else {BOOK: prices.coded_bits(books.values()), **bits}
  )


def of_each(
  tariff: Tariff | None, codebooks: Sequence[vector.VectorQuantizer]
) -> Iterator[tuple[vector.VectorQuantizer, Tariff | None]]:
  """Yields the codebooks, each with what its codewords cost in its search.

  Its squared distances are sums over D numbers, of projected points, and those
  of the pool over C.  So that a bit costs as much beside either, its price is C
  / D times as high here.

  Args:
    tariff: of the pool.
    codebooks: of the pool.
  """
  for i, codebook in enumerate(codebooks):
    if tariff is None:
      yield codebook, None
      continue
    ratio = codebook.features / codebook.embedding_dim
    yield (
      codebook,
      dataclasses.replace(
        tariff,
        rate_weight=ratio * tariff.rate_weight,
        tables={vector.STREAM: tariff.tables[index_stream(i)]},
      ),
    )


def charges(tariff: Tariff, indices: Sequence[jax.Array]) -> jax.Array:
  """Returns what each codebook costs each point, float32 `[..., m]`.

  The unit is that of mean squared distances.

  Args:
    tariff: of the pool.
    indices: of the points in each codebook, int32 `[...]`.
  """
  bits = jnp.stack(
    [
      tariff.bits(index_stream(i), index.reshape(-1))
      for i, index in enumerate(indices)
    ],
    axis=-1,
  )
  costs = tariff.rate_weight[:, None] * bits
  if BOOK in tariff.tables:
    costs += tariff.charges(BOOK, width=1)
  return costs.reshape(*indices[0].shape, len(indices))


def sent(
  book: jax.Array, indices: Sequence[jax.Array]
) -> Mapping[str, jax.Array]:
  """Returns the codes of each stream, int32 `[T]`, -1 where none is sent.

  Args:
    book: the choice, int32 `[...]`.
    indices: of the points in each codebook, int32 `[...]`.
  """
  codes = {
    index_stream(i): jnp.where(book == i, index, -1).reshape(-1)
    for i, index in enumerate(indices)
  }
  return codes if len(indices) == 1 else {BOOK: book.reshape(-1), **codes}
