"""Writes token files of versions 1 and 2, as programs before version 3 did."""

import dataclasses
import hashlib
import json
import struct

import numpy as np

from tests.support import old_packing


def write_first(path, fields, structures, chunks):
  """Writes a file of chunks (names, book `[n, h, w]`, indices of each book)."""
  parts = []
  sizes = [size for size, _ in structures]
  for names, book, indices in chunks:
    names = json.dumps(names, ensure_ascii=False).encode()
    books = b""
    if len(sizes) > 1:
      books = old_packing.encode_symbols(book.reshape(-1), len(sizes))
    parts.append(struct.pack(">4I", len(names), *book.shape[1:], len(books)))
    parts.append(np.array([len(i) for i in indices], ">u4").tobytes())
    parts += [names, books]
    parts += [
      old_packing.pack(i, n) for i, n in zip(indices, sizes, strict=True)
    ]
  _write(path, 1, {**fields, "structures": structures}, parts)


def write_second(path, fields, streams, chunks):
  """Writes a file of chunks, which are those of version 3."""
  parts = []
  for chunk in chunks:
    names = json.dumps(chunk.names, ensure_ascii=False).encode()
    packed = [
      _pack(codes, stream)
      for codes, stream in zip(chunk.codes, streams, strict=True)
    ]
    numbers = [len(names), chunk.height, chunk.width]
    numbers += [len(codes) for codes in chunk.codes]
    numbers += [
      len(content)
      for content, stream in zip(packed, streams, strict=True)
      if stream.coding == "entropy"
    ]
    parts += [np.array(numbers, ">u4").tobytes(), names, *packed]
  described = [dataclasses.asdict(stream) for stream in streams]
  for stream in described:
    for name in ("group", "width", "labels"):
      del stream[name]
  _write(path, 2, {**fields, "streams": described}, parts)


def fields_of(header):
  """The fields of a header that both versions have."""
  fields = dataclasses.asdict(header)
  for name in ("streams", "tables", "version"):
    del fields[name]
  return fields


def _write(path, version, header, parts):
  head = json.dumps(header).encode()
  start = struct.pack(">8sHI", b"\x89ADQTOK\n", version, len(head))
  content = start + head + b"".join(parts)
  path.write_bytes(content + hashlib.sha256(content).digest())


def _pack(codes, stream):
  if stream.coding == "fixed":
    return old_packing.pack(codes, stream.alphabet)
  if not len(codes):
    return b""
  return old_packing.encode_symbols(codes, stream.alphabet)
