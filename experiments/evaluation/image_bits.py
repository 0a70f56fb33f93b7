"""The bits that each image takes."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from adq_jax import metrics
from adq_jax import streams as streams_lib
from experiments.evaluation.evaluator import Evaluation

_PERCENTILES = (5, 50, 95)


def describe_image_bits(
  evaluation: Evaluation,
  reference: Evaluation | None,
  codes: Sequence[np.ndarray],
) -> dict[str, Any]:
  """Returns how many bits images take, where that differs between them.

  The mean and three percentiles over images are `nominal` and `coded`, by the
  same codes as `rate_nominal` and `rate_coded`: their means are these rates
  times the positions of an image.

  Args:
    evaluation: of the images.
    reference: of the images whose frequencies an entropy code is made for;
      None for no coded bits.
    codes: of the images, as `Evaluator.codes` returns them.
  """
  symbols, counts = evaluation.symbols, evaluation.counts
  lengths = {
    "nominal": [
      np.asarray(streams_lib.nominal_bits(symbol, count))
      for symbol, count in zip(symbols, counts, strict=True)
    ]
  }
  if reference is not None:
    lengths["coded"] = [
      np.asarray(metrics.code_bits(count)) for count in reference.counts
    ]
  found = {name: image_bits(tables, codes) for name, tables in lengths.items()}
  figures = {
    name: _spread(bits) for name, bits in found.items() if np.ptp(bits)
  }
  return {"image_bits": figures} if figures else {}


def image_bits(
  tables: Sequence[np.ndarray], codes: Sequence[np.ndarray]
) -> np.ndarray:
  """Returns the bits of each image, float64 `[n]`.

  The arguments are those of `bits_of_positions`, but for symbols that are on
  different grids.
  """
  return sum(
    bits_of_positions([table], [values]).sum(axis=(1, 2))
    for table, values in zip(tables, codes, strict=True)
  )


def bits_of_positions(
  tables: Sequence[np.ndarray], codes: Sequence[np.ndarray]
) -> np.ndarray:
  """Returns the bits of each position.

  Args:
    tables: the bits of each symbol, `[A]` for each kind of symbol.
    codes: the symbols of images, int `[n, h, w]` for each kind; -1 where none
      is sent.

  Returns:
    float64 `[n, h, w]`.
  """
  bits = 0.0
  for table, values in zip(tables, codes, strict=True):
    # The last one is that of -1.
    bits = bits + np.append(table.astype(np.float64), 0.0)[values]
  return bits


def _spread(bits: np.ndarray) -> dict[str, float]:
  """Returns the mean and percentiles of figures of images."""
  percentiles = np.percentile(bits, _PERCENTILES)
  return {
    "mean": float(bits.mean()),
    **{
      f"percentile_{q}": float(value)
      for q, value in zip(_PERCENTILES, percentiles, strict=True)
    },
  }
