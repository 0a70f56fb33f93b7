"""Pools of codebooks, whose structures take the same memory."""


def codebook_structures(capacity: int) -> tuple[tuple[int, int], ...]:
  """Returns the pool of structures (N, D) of a capacity (section 3.1).

  Every power of two D from 128 down to 1 with N = capacity / D and N > D; for
  65536 the paper's eight, (512, 128) to (65536, 1).

  Args:
    capacity: N x D of every structure; a multiple of every D in the pool.

  Raises:
    ValueError: if no structure fits, or one would need a fraction of a
      codeword.
  """
  if capacity < 2:
    raise ValueError(f"capacity is {capacity}; it must be at least 2")
  dims = [d for d in (128, 64, 32, 16, 8, 4, 2, 1) if capacity > d * d]
  if capacity % dims[0]:
    raise ValueError(
      f"capacity is {capacity}; it must be a multiple of {dims[0]}, the"
      " largest embedding_dim whose square is below it"
    )
  return tuple((capacity // d, d) for d in dims)
