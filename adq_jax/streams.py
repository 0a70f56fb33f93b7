"""Streams of integers, which a quantizer sends, and the bits that they take.

The codes of a model have a structure of their own.  Whatever it is, the model
sends them as streams of integers, in an order in which a decoder can read them:
a stream, with the streams before it, tells at which positions it has a code.
Rates, usage, token files and priors need no other knowledge of a quantizer.
"""

from collections.abc import Sequence
import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

from adq_jax import checks
from adq_jax import metrics

CODINGS = ("fixed", "entropy")
MAX_ALPHABET = 2**24  # of a symbol, since histograms are dense


@dataclasses.dataclass(frozen=True)
class Stream:
  """One of the streams of integers that a model sends.

  Attributes:
    name: of the stream, unique in the model.
    alphabet: A, 1 or more; codes are in [0, A).
    stride: how many positions of the finest grid share a code on each side.
    coding: how a code is written: `"fixed"`, in log2 A bits; or `"entropy"`, in
      as many bits as the entropy of the stream's own histogram.
    group: the name of a group, or `""`.  Streams of one group are counted as
      one symbol where the product of their alphabets is at most 2^24.  They
      must have a code at every position, and the same stride.
    width: D of the codewords that the codes stand for; 0 where they stand for
      something else.
    labels: a name for each code, A of them; `()` for the numbers themselves.

  Raises:
    ValueError: if the alphabet or the stride is below 1, the coding is unknown,
      or the number of labels is neither 0 nor A.

  Example:
    >>> from adq_jax import Stream
    >>> stream = Stream("index", 512, width=64)
    >>> stream.title
    '[512,64]'
  """

  name: str
  alphabet: int
  stride: int = 1
  coding: str = "fixed"
  group: str = ""
  width: int = 0
  labels: tuple[str, ...] = ()

  def __post_init__(self):
    checks.check_count(f"alphabet of stream {self.name!r}", self.alphabet)
    checks.check_count(f"stride of stream {self.name!r}", self.stride)
    checks.check_choice(f"coding of stream {self.name!r}", self.coding, CODINGS)
    if len(self.labels) not in (0, self.alphabet):
      raise ValueError(
        f"stream {self.name!r} has {len(self.labels)} labels; it must have"
        f" {self.alphabet}, one for each code, or none"
      )

  @property
  def title(self) -> str:
    """The title in tables and figures: [N,D] for codewords, else the name."""
    return f"[{self.alphabet},{self.width}]" if self.width else self.name


@dataclasses.dataclass(frozen=True)
class Symbol:
  """Streams whose codes are counted together, most often a single one.

  Attributes:
    name: of the stream, or of the group.
    title: in tables and figures.
    members: the places of the streams among all streams of the model.
    alphabets: of the streams.
    coding: of the streams.
  """

  name: str
  title: str
  members: tuple[int, ...]
  alphabets: tuple[int, ...]
  coding: str

  @property
  def alphabet(self) -> int:
    """The number of symbols: the product of the streams' alphabets."""
    return math.prod(self.alphabets)

  def join(self, values: Sequence[jax.Array]) -> jax.Array:
    """Returns the symbols of codes.

    Args:
      values: the codes of all streams of the model, int32 `[...]` each.

    Returns:
      int32 `[...]`, in [0, alphabet).
    """
    first, *others = self.members
    joined = values[first]
    for member, alphabet in zip(others, self.alphabets[1:], strict=True):
      joined = joined * alphabet + values[member]
    return joined


def symbols(streams: Sequence[Stream]) -> tuple[Symbol, ...]:
  """Returns the symbols in which the codes of streams are counted.

  A group is one symbol, and so is a stream without a group.  A group with too
  many symbols for a histogram is counted stream by stream.

  Args:
    streams: all streams of a model.
  """
  groups = {}
  for i, stream in enumerate(streams):
    groups.setdefault(stream.group or i, []).append(i)
  found = []
  for name, members in groups.items():
    product = math.prod(streams[i].alphabet for i in members)
    is_joined = len(members) > 1 and product <= MAX_ALPHABET
    for joined in [members] if is_joined else [[i] for i in members]:
      first = streams[joined[0]]
      found.append(
        Symbol(
          name=name if is_joined else first.name,
          title=name if is_joined else first.title,
          members=tuple(joined),
          alphabets=tuple(streams[i].alphabet for i in joined),
          coding=first.coding,
        )
      )
  return tuple(found)


def sent_streams(
  sender: Any, codes: Any
) -> tuple[tuple[jax.Array, ...], tuple[jax.Array, ...]]:
  """Returns the streams of some codes, and where each of them is sent.

  Args:
    sender: a quantizer or a model, which has `to_streams` and `sent`.
    codes: of the sender.

  Returns:
    The codes of each stream int32 `[B, h, w]`, and masks of the same shapes,
    True where a code is sent.
  """
  values = sender.to_streams(codes)
  masks = []
  for k, value in enumerate(values):
    masks.append(sent_mask(sender, k, values[:k], value.shape))
  return values, tuple(masks)


def sent_mask(
  sender: Any, k: int, earlier: Sequence[jax.Array], shape: tuple[int, ...]
) -> jax.Array:
  """Returns where stream k has a code, as the streams before it tell.

  Args:
    sender: a quantizer or a model, which has `sent`.
    k: the place of the stream among all streams.
    earlier: the codes of the streams before it, int32 `[B, h, w]` each.
    shape: the shape of its own codes.

  Returns:
    bool of that shape, True where a code is sent.
  """
  is_sent = sender.sent(k, earlier)
  return jnp.ones(shape, bool) if is_sent is None else is_sent


def choice_of(streams: Sequence[Stream]) -> int | None:
  """Returns the place of the first stream whose codes have labels, or None.

  Such a stream is a choice, which a map over positions can show.
  """
  return next((i for i, s in enumerate(streams) if s.labels), None)


def nominal_bits(of: Symbol, counts: jax.Array) -> jax.Array:
  """Returns the bits of each symbol when codes are sent as they are.

  A code of a `"fixed"` stream takes log2 A bits.  One of an `"entropy"` stream
  takes what its own histogram gives it, without anything added to its counts.

  Args:
    of: a symbol of a model's streams, from `symbols`.
    counts: how often each value of it is sent, `[A]`.

  Returns:
    float32 `[A]`; 0 for a value of an `"entropy"` stream that is never sent.
  """
  if of.coding == "fixed":
    return jnp.full(of.alphabet, math.log2(of.alphabet), jnp.float32)
  counts = jnp.asarray(counts, jnp.float32)
  is_sent = counts > 0
  return jnp.log2(jnp.where(is_sent, counts.sum() / counts, 1.0))


def nominal_rate(
  of: Sequence[Symbol], counts: Sequence[jax.Array], positions: float
) -> jax.Array:
  """Returns the bits that a position takes when codes are sent as they are.

  A code of a `"fixed"` stream takes log2 A bits.  A code of an `"entropy"`
  stream takes the entropy of the stream's histogram.

  Args:
    of: the symbols of a model's streams, from `symbols`.
    counts: how often each symbol is sent, `[A]` for each of `of`.
    positions: the number of positions of the finest grid.

  Returns:
    float32 `[]`, in bits per position.
  """
  fixed = [i for i, symbol in enumerate(of) if symbol.coding == "fixed"]
  sent = jnp.asarray([counts[i].sum() for i in fixed], jnp.float32)
  bits = jnp.log2(jnp.asarray([of[i].alphabet for i in fixed], jnp.float32))
  rate = jnp.sum(sent * bits) / jnp.maximum(positions, 1.0)
  for symbol, count in zip(of, counts, strict=True):
    if symbol.coding == "entropy":
      share = count.sum() / jnp.maximum(positions, 1.0)
      rate += share * metrics.entropy_bits(count)
  return rate


def coded_rate(
  of: Sequence[Symbol],
  counts: Sequence[jax.Array],
  reference_counts: Sequence[jax.Array],
  positions: float,
) -> jax.Array:
  """Returns the bits that a position takes under an entropy code.

  The entropy code is made for a reference, such as the training split, with
  1/2 added to every count.  The rate is the cross-entropy of the symbols under
  it.

  Args:
    of: the symbols of a model's streams, from `symbols`.
    counts: how often each symbol is sent, `[A]` for each of `of`.
    reference_counts: how often each symbol is sent in the reference, `[A]` for
      each of `of`.
    positions: the number of positions of the finest grid.

  Returns:
    float32 `[]`, in bits per position.
  """
  trios = list(zip(of, counts, reference_counts, strict=True))
  # Choices come last, so that rates are to the bit those of `metrics`.
  trios.sort(key=lambda trio: trio[0].coding == "entropy")
  total = sum(
    metrics.cross_entropy_bits(count, reference)
    for _, count, reference in trios
  )
  return total / jnp.maximum(positions, 1.0)
