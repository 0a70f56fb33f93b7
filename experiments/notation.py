"""The notation of tables, figures and texts."""

from collections.abc import Sequence


def structure_name(structure: Sequence[int]) -> str:
  """Returns the paper's notation of a codebook, "[512,128]"."""
  return f"[{structure[0]},{structure[1]}]"
