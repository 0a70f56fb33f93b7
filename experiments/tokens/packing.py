"""Reads integers of token files of versions 1 and 2, from any bytes."""

import functools

import numpy as np

MAX_SYMBOLS = 256

_BLOCK_BITS = 64
_SHARE_BITS = 15  # shares of symbols are multiples of 2^-15
_WORD_BITS = 32
_LOWEST = 2**32  # of the coder's state, which has 64 bits


def packed_size(count: int, base: int) -> int:
  """Returns how many bytes `count` packed numbers below `base` take."""
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


def unpack(content: bytes, count: int, base: int) -> np.ndarray:
  """Returns packed numbers, int32 `[count]`, each in [0, base).

  A block of bits is the number whose digits to that base they are, the first
  being the highest; the last block has the digits that are left, in as few bits
  as that many need, and zero bits up to a whole byte.

  Raises:
    ValueError: if these bytes are none.
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


def decode_symbols(content: bytes, count: int, num_symbols: int) -> np.ndarray:
  """Returns symbols, int32 `[count]`, of an asymmetric numeral system.

  (Duda, 2013.)  The bytes are the shares of the symbols in units of 2^-15, as
  many 16-bit numbers; the last state, 64 bits; then words of 32 bits in the
  order in which decoding takes them.  All are big-endian.

  Args:
    content: the bytes.
    count: the number of symbols, one or more.
    num_symbols: the alphabet, at most `MAX_SYMBOLS`.

  Raises:
    ValueError: if these bytes are none.
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


def _bits(base: int, digits: int) -> int:
  """The bits of the largest number of that many digits."""
  return (base**digits - 1).bit_length()


def _split(numbers: np.ndarray, count: int, base: int) -> np.ndarray:
  """The digits `[n * count]` of numbers `[n]`."""
  digits = np.empty((len(numbers), count), np.uint64)
  for i in reversed(range(count)):
    numbers, digits[:, i] = np.divmod(numbers, np.uint64(base))
  if numbers.any():
    raise ValueError(f"a number is not in [0, {base})")
  return digits.reshape(-1)


def _from_bits(bits: np.ndarray, count: int, width: int) -> np.ndarray:
  """Bits `[count * width]`, the highest first -> numbers uint64 `[count]`."""
  padded = np.zeros((count, _BLOCK_BITS), np.uint8)
  padded[:, _BLOCK_BITS - width :] = bits.reshape(count, width)
  return np.packbits(padded, axis=1).view(">u8").reshape(-1).astype(np.uint64)
