"""Symbols in the bits that their frequencies are worth, by `constriction`.

Its `Categorical` takes probabilities p as floats, adds up s of them, and begins
symbol i at floor((p_0 + .. + p_i-1) (2^24 - A) / s) + i, of 2^24.  We give it
p = frequency - 1, whole numbers of sum 2^24 - A: then that factor is 1, all
sums are exact in float64, and so symbols have the very integers of our tables,
on any machine and in any order of summation.
"""

import math

import constriction
import numpy as np

WORD = np.dtype(">u4")

# Beyond it the rounding of 2^24 / A would cost more than a second digit.
_MAX_EVEN = 2**16


class Encoder:
  """Codes symbols, one array after another."""

  def __init__(self):
    self._coder = constriction.stream.queue.RangeEncoder()

  def add(self, symbols: np.ndarray, table: np.ndarray) -> None:
    """Codes symbols by their frequencies.

    Args:
      symbols: integers `[n]` in [0, A).
      table: integers `[A]` from 1, whose sum is `frequencies.TOTAL`; A is 2 or
        more.
    """
    self._coder.encode(symbols.astype(np.int32), _model(table))

  def add_even(self, symbols: np.ndarray, alphabet: int) -> None:
    """Codes integers `[n]` in [0, alphabet), of which all take as many bits."""
    digits = [symbols]
    if len(bases := _bases(alphabet)) > 1:
      digits = np.divmod(symbols, bases[1])
    for digit, base in zip(digits, bases, strict=True):
      if base > 1:
        self._coder.encode(digit.astype(np.int32), _uniform(base))

  def finish(self) -> bytes:
    """Returns all that was coded: words of 32 bits, big-endian."""
    return self._coder.get_compressed().astype(WORD).tobytes()


class Decoder:
  """Takes symbols, in the order in which `Encoder` was given them."""

  def __init__(self, content: bytes):
    """Decodes any bytes, a multiple of four."""
    words = np.frombuffer(content, WORD).astype(np.uint32)
    self._coder = constriction.stream.queue.RangeDecoder(words)

  def take(self, count: int, table: np.ndarray) -> np.ndarray:
    """Returns the next symbols, int32 `[count]`; see `Encoder.add`.

    Raises:
      ValueError: if no symbols have these bytes.
    """
    return self._take(count, _model(table))

  def take_even(self, count: int, alphabet: int) -> np.ndarray:
    """Returns the next symbols, int32 `[count]`; see `Encoder.add_even`.

    Raises:
      ValueError: if no symbols have these bytes.
    """
    symbols = np.zeros(count, np.int64)
    for base in _bases(alphabet):
      symbols *= base
      if base > 1:
        symbols += self._take(count, _uniform(base))
    if count and symbols.max() >= alphabet:
      raise ValueError(f"a code is not in [0, {alphabet})")
    return symbols.astype(np.int32)

  def check_end(self) -> None:
    """Raises a ValueError if there is more than was taken, or less."""
    if not self._coder.maybe_exhausted():
      raise ValueError("coded symbols do not end where they should")

  def _take(
    self, count: int, model: constriction.stream.model.Model
  ) -> np.ndarray:
    try:
      return self._coder.decode(model, count)
    except AssertionError as error:  # so the library says it
      raise ValueError("coded symbols are wrong") from error


def even_bits(alphabet: int) -> float:
  """Returns the bits that `Encoder.add_even` takes for a symbol."""
  return sum(math.log2(base) for base in _bases(alphabet))


def _bases(alphabet: int) -> tuple[int, ...]:
  """The bases of the digits of a symbol, the first digit being the highest."""
  if alphabet <= _MAX_EVEN:
    return (alphabet,)
  low = math.isqrt(alphabet - 1) + 1
  return (-(-alphabet // low), low)


def _model(table: np.ndarray) -> constriction.stream.model.Categorical:
  return constriction.stream.model.Categorical(
    (table - 1).astype(np.float64), perfect=False
  )


def _uniform(alphabet: int) -> constriction.stream.model.Uniform:
  return constriction.stream.model.Uniform(alphabet)
