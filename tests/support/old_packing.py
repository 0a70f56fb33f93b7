"""Writes integers as programs before version 3 of token files did.

Numbers below N (`pack`) take log2 N bits each; symbols of a skewed histogram
(`encode_symbols`) its entropy.
"""

import numpy as np

from experiments.tokens.packing import block

_BLOCK_BITS = 64
_SHARE_BITS = 15  # shares of symbols are multiples of 2^-15
_WORD_BITS = 32
_LOWEST = 2**32  # of the coder's state, which has 64 bits


def pack(values: np.ndarray, base: int) -> bytes:
  """Returns integers `[n]` in [0, base) as blocks of bits.

  A block is the number whose digits to that base they are, the first being the
  highest; the last block has the digits that are left, in as few bits as that
  many need, and zero bits up to a whole byte.

  Raises:
    ValueError: if one is out of range.
  """
  _check_range(values, base)
  digits, bits = block(base)
  values = values.astype(np.uint64)
  whole, rest = np.split(values, [len(values) // digits * digits])
  parts = [
    _to_bits(_join(whole.reshape(-1, digits), base), bits),
    _to_bits(_join(rest[None], base), _bits(base, len(rest))),
  ]
  return np.packbits(np.concatenate(parts)).tobytes()


def encode_symbols(symbols: np.ndarray, num_symbols: int) -> bytes:
  """Returns integers `[n]` in [0, num_symbols) in about their entropy.

  By an asymmetric numeral system (Duda, 2013): shares of the symbols in units
  of 2^-15, as many 16-bit numbers; the last state, 64 bits; then words of 32
  bits in the order in which decoding takes them.  All are big-endian.

  Args:
    symbols: one or more.
    num_symbols: at most `packing.MAX_SYMBOLS`.

  Raises:
    ValueError: if one is out of range.
  """
  _check_range(symbols, num_symbols)
  counts = np.bincount(symbols.astype(np.intp), minlength=num_symbols)
  shares = np.maximum(counts * 2**_SHARE_BITS // counts.sum(), counts > 0)
  shares[np.argmax(shares)] += 2**_SHARE_BITS - shares.sum()
  starts = np.cumsum(shares) - shares
  ranges = list(zip(shares.tolist(), starts.tolist(), strict=True))
  state, words = _LOWEST, []
  for symbol in symbols[::-1].tolist():
    share, start = ranges[symbol]
    if state >> (2 * _WORD_BITS - _SHARE_BITS) >= share:
      words.append(state % 2**_WORD_BITS)
      state >>= _WORD_BITS
    quotient, remainder = divmod(state, share)
    state = (quotient << _SHARE_BITS) + start + remainder
  return (
    shares.astype(">u2").tobytes()
    + state.to_bytes(8)
    + np.array(words[::-1], ">u4").tobytes()
  )


def _check_range(values: np.ndarray, base: int) -> None:
  # Fractions would be cut off in silence.
  if not np.issubdtype(values.dtype, np.integer):
    raise ValueError(f"numbers are {values.dtype}; they must be integers")
  if values.size and not 0 <= values.min() <= values.max() < base:
    raise ValueError(f"a number is not in [0, {base})")


def _bits(base: int, digits: int) -> int:
  """The bits of the largest number of that many digits."""
  return (base**digits - 1).bit_length()


def _join(digits: np.ndarray, base: int) -> np.ndarray:
  """The numbers `[n]` of digits `[n, k]`."""
  numbers = np.zeros(len(digits), np.uint64)
  for column in digits.T:
    numbers = numbers * np.uint64(base) + column
  return numbers


def _to_bits(numbers: np.ndarray, width: int) -> np.ndarray:
  """Numbers uint64 `[n]` -> bits `[n * width]`, the highest first."""
  octets = numbers.astype(">u8").view(np.uint8).reshape(-1, 8)
  return np.unpackbits(octets, axis=1)[:, _BLOCK_BITS - width :].reshape(-1)
