"""Integers in as few bits as they are worth, and back from any bytes.

Numbers below N (`pack`) take log2 N bits each; symbols of a skewed histogram
(`encode_symbols`) its entropy.
"""

import functools

import numpy as np

MAX_SYMBOLS = 256

_BLOCK_BITS = 64
_SHARE_BITS = 15  # shares of symbols are multiples of 2^-15
_WORD_BITS = 32
_LOWEST = 2**32  # of the coder's state, which has 64 bits


def packed_size(count: int, base: int) -> int:
  """Returns how many bytes `pack` makes of `count` numbers below `base`."""
  digits, bits = block(base)
  blocks, rest = divmod(count, digits)
  return -(-(blocks * bits + _bits(base, rest)) // 8)


@functools.cache
def block(base: int) -> tuple[int, int]:
  """Returns how many numbers below `base` go into a block of how many bits.

  A power of two goes alone, without loss.  Of others, as many as waste the
  least in a block of at most 64 bits.
  """
  sizes = [k for k in range(1, _BLOCK_BITS + 1) if base**k <= 2**_BLOCK_BITS]
  return min(
    ((digits, _bits(base, digits)) for digits in sizes),
    key=lambda block: (block[1] / block[0], block[0]),
  )


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


def unpack(content: bytes, count: int, base: int) -> np.ndarray:
  """Returns the numbers, int32 `[count]`, that `pack` made bytes of.

  Raises:
    ValueError: if it did not make these.
  """
  if len(content) != packed_size(count, base):
    raise ValueError(f"{count} numbers below {base} have another size")
  digits, bits = block(base)
  blocks, rest = divmod(count, digits)
  rest_bits = _bits(base, rest)
  unpacked = np.unpackbits(np.frombuffer(content, np.uint8))
  whole, last, padding = np.split(
    unpacked, [blocks * bits, blocks * bits + rest_bits]
  )
  if padding.any():
    raise ValueError("bits are set after the last number")
  values = [
    _split(_from_bits(whole, blocks, bits), digits, base),
    _split(_from_bits(last, 1, rest_bits), rest, base),
  ]
  return np.concatenate(values).astype(np.int32)


def encode_symbols(symbols: np.ndarray, num_symbols: int) -> bytes:
  """Returns integers `[n]` in [0, num_symbols) in about their entropy.

  By an asymmetric numeral system (Duda, 2013): shares of the symbols in units
  of 2^-15, as many 16-bit numbers; the last state, 64 bits; then words of 32
  bits in the order in which decoding takes them.  All are big-endian.

  Args:
    symbols: one or more.
    num_symbols: at most `MAX_SYMBOLS`.

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


def decode_symbols(content: bytes, count: int, num_symbols: int) -> np.ndarray:
  """Returns the symbols, int32 `[count]`, that `encode_symbols` had.

  Raises:
    ValueError: if it did not make these bytes.
  """
  head = 2 * num_symbols
  if len(content) < head + 8 or (len(content) - head) % 4:
    raise ValueError("coded symbols are cut short")
  shares = np.frombuffer(content, ">u2", num_symbols).astype(np.int64)
  if shares.sum() != 2**_SHARE_BITS:
    raise ValueError("the shares of symbols do not add up")
  starts = (np.cumsum(shares) - shares).tolist()
  by_slot = np.repeat(np.arange(num_symbols), shares).tolist()
  shares = shares.tolist()
  state = int.from_bytes(content[head : head + 8])
  words = iter(np.frombuffer(content, ">u4", offset=head + 8).tolist())
  symbols = []
  try:
    for _ in range(count):
      slot = state % 2**_SHARE_BITS
      symbol = by_slot[slot]
      symbols.append(symbol)
      state = shares[symbol] * (state >> _SHARE_BITS) + slot - starts[symbol]
      if state < _LOWEST:
        state = (state << _WORD_BITS) + next(words)
  except StopIteration:
    raise ValueError("coded symbols are cut short") from None
  if state != _LOWEST or next(words, None) is not None:
    raise ValueError("coded symbols do not end where they began")
  return np.array(symbols, np.int32)


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


def _split(numbers: np.ndarray, count: int, base: int) -> np.ndarray:
  """The digits `[n * count]` of numbers `[n]`."""
  digits = np.empty((len(numbers), count), np.uint64)
  for i in reversed(range(count)):
    numbers, digits[:, i] = np.divmod(numbers, np.uint64(base))
  if numbers.any():
    raise ValueError(f"a number is not in [0, {base})")
  return digits.reshape(-1)


def _to_bits(numbers: np.ndarray, width: int) -> np.ndarray:
  """Numbers uint64 `[n]` -> bits `[n * width]`, the highest first."""
  octets = numbers.astype(">u8").view(np.uint8).reshape(-1, 8)
  return np.unpackbits(octets, axis=1)[:, _BLOCK_BITS - width :].reshape(-1)


def _from_bits(bits: np.ndarray, count: int, width: int) -> np.ndarray:
  """The inverse of `_to_bits`, for `count` numbers."""
  padded = np.zeros((count, _BLOCK_BITS), np.uint8)
  padded[:, _BLOCK_BITS - width :] = bits.reshape(count, width)
  return np.packbits(padded, axis=1).view(">u8").reshape(-1).astype(np.uint64)
