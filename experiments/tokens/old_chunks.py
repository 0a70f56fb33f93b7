"""Reads the chunks of token files of versions 1 and 2.

A chunk of version 2, of n images, is, all numbers big-endian,

    names     32 bits, the size of the images' names in bytes
    h, w      32 bits each, the positions of an image on the finest grid
    counts    32 bits for each stream, how many codes it has in the chunk
    sizes     32 bits for each stream of coding "entropy", its size in bytes
    names     JSON, a list of n strings: paths that stay in their folder
    codes     of each stream, of the positions that have one, image by image in
              row-major order: of coding "fixed" as `packing.unpack` takes them,
              of coding "entropy" as `packing.decode_symbols` does; nothing
              where it has none

Version 1 is of models with codebooks alone; its header has their `structures`,
(N, D) of each, instead of streams, and its chunks

    names, h, w   as above
    books     32 bits, the size of the choice of codebooks in bytes
    counts    32 bits for each codebook, how many indices it has in the chunk
    names     as above
    books     the choice, for `packing.decode_symbols`; nothing of one codebook
    indices   of each codebook, for `packing.unpack`
"""

from collections.abc import Callable
import json
import struct

from experiments.tokens import chunk as chunks
from experiments.tokens import packing
from experiments.tokens.chunk import Chunk
from experiments.tokens.file_header import Header

_CHUNK = struct.Struct(">3I")


def read(read: Callable[[int], bytes], header: Header) -> Chunk:
  """Reads a chunk of version 1 or 2, trusting nothing in it.

  Args:
    read: returns that many bytes of the file; raises a ValueError where there
      are fewer.
    header: the header of the file.

  Raises:
    ValueError: if it is none.
  """
  if header.version == 1:
    return _read_first_version(read, header)
  return _read_second_version(read, header)


def _read_second_version(read: Callable[[int], bytes], header: Header) -> Chunk:
  streams = header.streams
  size, height, width = _CHUNK.unpack(read(_CHUNK.size))
  counts = chunks.read_numbers(read, len(streams))
  is_coded = [stream.coding == "entropy" for stream in streams]
  sizes = iter(chunks.read_numbers(read, sum(is_coded)))
  names = _read_names(read, size, height, width, header)
  codes = []
  for stream, count in zip(streams, counts, strict=True):
    if height % stream.stride or width % stream.stride:
      raise ValueError(f"{stream.name} does not divide its grid")
    if count * stream.stride**2 > len(names) * height * width:
      raise ValueError("it has more codes than positions")
    if stream.coding == "entropy":
      content = read(next(sizes))
      if count:
        codes.append(packing.decode_symbols(content, count, stream.alphabet))
        continue
      if content:
        raise ValueError(f"{stream.name} has no codes, and bytes")
    else:
      content = read(packing.packed_size(count, stream.alphabet))
    codes.append(packing.unpack(content, count, stream.alphabet))
  return Chunk(names, height, width, tuple(codes))


def _read_first_version(read: Callable[[int], bytes], header: Header) -> Chunk:
  size, height, width = _CHUNK.unpack(read(_CHUNK.size))
  (books,) = chunks.read_numbers(read, 1)
  sizes = [s.alphabet for s in header.streams if s.coding == "fixed"]
  counts = chunks.read_numbers(read, len(sizes))
  names = _read_names(read, size, height, width, header)
  positions = len(names) * height * width
  if max(counts) > positions:
    raise ValueError("it has more indices than positions")
  choice = ()
  if len(sizes) > 1:
    choice = (packing.decode_symbols(read(books), positions, len(sizes)),)
  elif books:
    raise ValueError("it has a choice among one codebook")
  indices = tuple(
    packing.unpack(read(packing.packed_size(n, base)), n, base)
    for n, base in zip(counts, sizes, strict=True)
  )
  return Chunk(names, height, width, choice + indices)


def _read_names(
  read: Callable[[int], bytes],
  size: int,
  height: int,
  width: int,
  header: Header,
) -> tuple[str, ...]:
  if size > chunks.MAX_NAMES:
    raise ValueError("its names are too long")
  names = json.loads(read(size))
  return chunks.check_names(names, height, width, header.downsampling)
