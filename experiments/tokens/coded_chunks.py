"""Writes and reads the chunks of token files of version 3.

A chunk, of n images of one size, at most 4,096, is, all numbers big-endian,

    names     32 bits, the size of the images' names in bytes
    h, w      32 bits each, the positions of an image on the finest grid: its
              sides, divided by the model's downsampling
    words     32 bits, how many words of 32 bits the codes take
    counts    32 bits for each symbol, how often it is sent in the chunk
    tables    32 bits for each symbol, which table it is coded by: 0, all codes
              take as many bits; 1, the model's; else the size of its own in
              bytes
    names     squeezed: n paths that stay in their folder, in UTF-8, with a
              line feed between two of them
    own       for each symbol with a table of its own, squeezed: how often each
              code occurs, all in as many bytes, 1, 2 or 4
    codes     of each symbol, of the positions that have one, image by image in
              row-major order; all by one `range_coder.Encoder`

A symbol is a stream, or streams that are counted as one; see
`adq_jax.streams.symbols`.  Squeezed means LZMA2, without a container.  Where
there are h w positions, a stream of stride s has (h / s) (w / s).  Which of
them have a code, the streams before it tell; see `adq_jax.Quantizer.sent`.

A table of a symbol's own has the frequencies `frequencies.table` of how often
its codes occur.  The writer takes the table that makes the chunk smallest.
"""

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
import lzma
import struct

import numpy as np

from adq_jax import Stream
from adq_jax.streams import Symbol
from adq_jax.streams import symbols
from experiments import files
from experiments.runs import frequencies
from experiments.tokens import chunk as chunks
from experiments.tokens import range_coder
from experiments.tokens.chunk import Chunk
from experiments.tokens.file_header import Header

# The dictionary bounds the memory of a reader.  Names that are numbered take a
# third less without a context of bits (lc) and of places (pb).
_FILTERS = [
  {"id": lzma.FILTER_LZMA2, "preset": 9, "dict_size": 2**20, "lc": 0, "pb": 0}
]
_SQUEEZED = {"format": lzma.FORMAT_RAW, "filters": _FILTERS}
_CHUNK = struct.Struct(">4I")
_EVEN, _OF_MODEL = 0, 1  # an own table is larger
_SIZES = (1, 2, 4)  # bytes of a count in an own table


@dataclasses.dataclass(frozen=True)
class _Coding:
  """How a symbol is coded in a chunk.

  Attributes:
    number: what the chunk has under "tables".
    table: the frequencies, int64 `[A]`; None where all take as many bits.
    own: the squeezed table, b"" unless it is the symbol's own.
    bits: that all of it takes, about.
  """

  number: int
  table: np.ndarray | None
  own: bytes
  bits: float


def to_bytes(
  chunk: Chunk,
  streams: Sequence[Stream],
  tables: Sequence[np.ndarray] | None,
) -> tuple[bytes, int]:
  """Returns a chunk as bytes, and how many of them are its names.

  Args:
    chunk: the chunk.
    streams: those of the model.
    tables: of the model, from `Frequencies.mixed`; None where it has none.

  Raises:
    ValueError: if a code is out of range, or a name leaves its folder.
  """
  for name in chunk.names:
    files.check_name(name)
  for codes, stream in zip(chunk.codes, streams, strict=True):
    _check_range(codes, stream)
  wide = [codes.astype(np.int64) for codes in chunk.codes]
  of = symbols(streams)
  joined = [symbol.join(wide) for symbol in of]
  codings = [
    _cheapest(values, symbol, None if tables is None else tables[i])
    for i, (symbol, values) in enumerate(zip(of, joined, strict=True))
  ]
  encoder = range_coder.Encoder()
  for symbol, values, coding in zip(of, joined, codings, strict=True):
    if coding.table is None:
      encoder.add_even(values, symbol.alphabet)
    else:
      encoder.add(values, coding.table)
  codes = encoder.finish()
  names = _squeeze("\n".join(chunk.names).encode())
  numbers = [len(values) for values in joined]
  numbers += [coding.number for coding in codings]
  words = len(codes) // range_coder.WORD.itemsize
  content = _CHUNK.pack(len(names), chunk.height, chunk.width, words)
  content += np.array(numbers, ">u4").tobytes() + names
  content += b"".join(coding.own for coding in codings) + codes
  return content, len(names)


def _cheapest(
  values: np.ndarray, symbol: Symbol, table: np.ndarray | None
) -> _Coding:
  """Returns the coding that takes the fewest bits; `table` is the model's."""
  even = range_coder.even_bits(symbol.alphabet)
  found = [_Coding(_EVEN, None, b"", len(values) * even)]
  if len(values) and frequencies.has_table(symbol):
    counts = np.bincount(values, minlength=symbol.alphabet)
    if table is not None:
      bits = frequencies.bits(counts, table)
      found.append(_Coding(_OF_MODEL, table, b"", bits))
    size = next(n for n in _SIZES if counts.max() < 256**n)
    own = _squeeze(counts.astype(f">u{size}").tobytes())
    table = frequencies.table(counts)
    bits = 8 * len(own) + frequencies.bits(counts, table)
    found.append(_Coding(len(own), table, own, bits))
  return min(found, key=lambda coding: coding.bits)


def read(
  read: Callable[[int], bytes],
  header: Header,
  tables: Sequence[np.ndarray] | None,
) -> Chunk:
  """Reads a chunk, trusting nothing in it.

  Args:
    read: returns that many bytes of the file; raises a ValueError where there
      are fewer.
    header: the header of the file.
    tables: those that the chunk was written with.

  Raises:
    ValueError: if it is none.
  """
  size, height, width, words = _CHUNK.unpack(read(_CHUNK.size))
  of = symbols(header.streams)
  counts = chunks.read_numbers(read, len(of))
  numbers = chunks.read_numbers(read, len(of))
  lines = _unsqueeze(read(size), chunks.MAX_NAMES).decode().split("\n")
  names = chunks.check_names(lines, height, width, header.downsampling)
  for symbol, count in zip(of, counts, strict=True):
    members = [header.streams[k] for k in symbol.members]
    _check_count(members, count, len(names), height, width)
  codings = [
    _coding(read, symbol, number, count, None if tables is None else tables[i])
    for i, (symbol, number, count) in enumerate(
      zip(of, numbers, counts, strict=True)
    )
  ]
  decoder = range_coder.Decoder(read(words * range_coder.WORD.itemsize))
  codes = [None] * len(header.streams)
  for symbol, count, table in zip(of, counts, codings, strict=True):
    if table is None:
      values = decoder.take_even(count, symbol.alphabet)
    else:
      values = decoder.take(count, table)
    split = np.unravel_index(values, symbol.alphabets)
    for k, own in zip(symbol.members, split, strict=True):
      codes[k] = own.astype(np.int32)
  decoder.check_end()
  return Chunk(names, height, width, tuple(codes))


def _coding(
  read: Callable[[int], bytes],
  symbol: Symbol,
  number: int,
  count: int,
  table: np.ndarray | None,
) -> np.ndarray | None:
  """Returns the table that codes a symbol; `table` is the model's."""
  if number == _EVEN:
    return None
  if not frequencies.has_table(symbol):
    raise ValueError(f"{symbol.name} has a table, of {symbol.alphabet} codes")
  if number == _OF_MODEL:
    if table is None:
      raise ValueError("its header names no tables of the model")
    return table
  content = _unsqueeze(read(number), max(_SIZES) * symbol.alphabet)
  size, rest = divmod(len(content), symbol.alphabet)
  if size not in _SIZES or rest:
    raise ValueError(f"the table of {symbol.name} is of another size")
  counts = np.frombuffer(content, f">u{size}").astype(np.int64)
  if not count or counts.sum() != count:
    raise ValueError(
      f"the table of {symbol.name} does not sum to its {count} codes"
    )
  return frequencies.table(counts)


def _check_range(codes: np.ndarray, stream: Stream) -> None:
  # Fractions would be cut off in silence.
  if not np.issubdtype(codes.dtype, np.integer):
    raise ValueError(f"codes are {codes.dtype}; they must be integers")
  if codes.size and not 0 <= codes.min() <= codes.max() < stream.alphabet:
    raise ValueError(f"a code is not in [0, {stream.alphabet})")


def _check_count(
  members: Sequence[Stream], count: int, n: int, height: int, width: int
) -> None:
  """Raises a ValueError if n images cannot have so many codes of a symbol."""
  stride = members[0].stride
  if any(member.stride != stride for member in members):
    raise ValueError(f"group {members[0].group!r:.99} has several strides")
  if height % stride or width % stride:
    raise ValueError(f"{members[0].name} does not divide its grid")
  if count * stride**2 > n * height * width:
    raise ValueError("it has more codes than positions")


def _squeeze(content: bytes) -> bytes:
  return lzma.compress(content, **_SQUEEZED)


def _unsqueeze(content: bytes, most: int) -> bytes:
  """Returns what was squeezed, at most so many bytes."""
  decompressor = lzma.LZMADecompressor(**_SQUEEZED)
  try:
    found = decompressor.decompress(content, most + 1)
  except lzma.LZMAError as error:
    raise ValueError(f"what is squeezed is damaged ({error})") from error
  if len(found) > most or not decompressor.eof or decompressor.unused_data:
    raise ValueError("what is squeezed does not end where it should")
  return found
