"""Writes token files of version 1, as programs before version 2 did."""

import hashlib
import json
import struct

import numpy as np

from experiments.tokens import packing


def write(path, fields, structures, chunks):
  """Writes a file of chunks (names, book `[n, h, w]`, indices of each book)."""
  content = json.dumps({**fields, "structures": structures}).encode()
  parts = [struct.pack(">8sHI", b"\x89ADQTOK\n", 1, len(content)), content]
  sizes = [size for size, _ in structures]
  for names, book, indices in chunks:
    names = json.dumps(names, ensure_ascii=False).encode()
    books = b""
    if len(sizes) > 1:
      books = packing.encode_symbols(book.reshape(-1), len(sizes))
    parts.append(struct.pack(">4I", len(names), *book.shape[1:], len(books)))
    parts.append(np.array([len(i) for i in indices], ">u4").tobytes())
    parts += [names, books]
    parts += [packing.pack(i, n) for i, n in zip(indices, sizes, strict=True)]
  content = b"".join(parts)
  path.write_bytes(content + hashlib.sha256(content).digest())
