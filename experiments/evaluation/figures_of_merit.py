"""Turns an evaluation into the figures that logs and summaries show."""

from collections.abc import Mapping
from typing import Any

import ml_collections
import numpy as np

from adq_jax import perplexity
from adq_jax import psnr
from adq_jax import streams as streams_lib
from adq_jax import usage
from experiments.data.split import Split
from experiments.evaluation.evaluator import Evaluation


def describe(
  config: ml_collections.ConfigDict, evaluation: Evaluation, split: Split
) -> dict[str, Any]:
  """Returns the figures of one evaluation.

  `recon_loss_sum` is the paper's table metric: the sum over the split of the
  mean squared errors of batches of the paper's size.  Rates are in bits for
  each position of the latent grid, and for each pixel.
  """
  mse = float(evaluation.squared_error.mean(dtype=np.float64))
  figures = {
    "recon_loss_sum": mse * len(split) / config.data.paper_batch_size,
    "mse": mse,
    "psnr": float(psnr(mse)),
  }
  symbols, counts = evaluation.symbols, evaluation.counts
  figures["streams"] = [
    _describe_symbol(symbol, count, evaluation.positions)
    for symbol, count in zip(symbols, counts, strict=True)
  ]
  if symbols:
    rate = float(
      streams_lib.nominal_rate(symbols, counts, evaluation.positions)
    )
    of_codewords = np.concatenate(
      [
        count
        for symbol, count in zip(symbols, counts, strict=True)
        if symbol.coding == "fixed"
      ]
    )
    figures |= {
      "rate_nominal": rate,
      "rate_nominal_per_pixel": rate / config.model.downsampling**2,
      "perplexity": float(perplexity(of_codewords)),
      "usage": float(usage(of_codewords)),
    }
  if codebooks := _describe_codebooks(evaluation):
    figures["codebooks"] = codebooks
  choice = streams_lib.choice_of(evaluation.streams)
  if choice is not None:
    figures["selection"] = _selection(evaluation, choice).tolist()
  if split.source_names:
    figures["psnr_per_source"] = per_source_psnr(
      evaluation.squared_error, split
    )
  return figures


def _describe_symbol(
  symbol: streams_lib.Symbol, counts: np.ndarray, positions: int
) -> dict[str, Any]:
  """Returns the figures of a symbol; its bits are those of one position."""
  return {
    "name": symbol.name,
    "title": symbol.title,
    "alphabet": symbol.alphabet,
    "sent": float(counts.sum() / positions),
    "bits": float(streams_lib.nominal_rate([symbol], [counts], positions)),
    "usage": float(usage(counts)),
    "perplexity": float(perplexity(counts)),
  }


def _describe_codebooks(evaluation: Evaluation) -> list[dict[str, Any]]:
  """Returns figures of each codebook, and the share of positions it serves."""
  of_stream = {
    symbol.members: counts
    for symbol, counts in zip(
      evaluation.symbols, evaluation.counts, strict=True
    )
  }
  books = [
    (stream, of_stream[(i,)])
    for i, stream in enumerate(evaluation.streams)
    if stream.width
  ]
  titles = tuple(stream.title for stream, _ in books)
  selection = [counts.sum() / evaluation.positions for _, counts in books]
  choice = streams_lib.choice_of(evaluation.streams)
  if choice is not None and evaluation.streams[choice].labels == titles:
    selection = _selection(evaluation, choice)
  return [
    {
      "structure": [stream.alphabet, stream.width],
      "selection": float(share),
      "usage": float(usage(counts)),
      "perplexity": float(perplexity(counts)),
    }
    for (stream, counts), share in zip(books, selection, strict=True)
  ]


def _selection(evaluation: Evaluation, choice: int) -> np.ndarray:
  """Returns how often each code of a choice is chosen, shares `[A]`.

  Args:
    evaluation: of a model.
    choice: the place of the choice among its streams.
  """
  (counts,) = (
    counts
    for symbol, counts in zip(
      evaluation.symbols, evaluation.counts, strict=True
    )
    if symbol.members == (choice,)
  )
  return counts / counts.sum()


def describe_coded_rate(
  config: ml_collections.ConfigDict,
  evaluation: Evaluation,
  reference: Evaluation,
) -> dict[str, float]:
  """Returns the rate under code frequencies of the training split."""
  if not evaluation.streams:
    return {}
  rate = float(
    streams_lib.coded_rate(
      evaluation.symbols,
      evaluation.counts,
      reference.counts,
      evaluation.positions,
    )
  )
  return {
    "rate_coded": rate,
    "rate_coded_per_pixel": rate / config.model.downsampling**2,
  }


def per_source_psnr(
  squared_error: np.ndarray, split: Split
) -> dict[str, float]:
  """Returns the PSNR in dB of each source's images."""
  return {
    name: float(psnr(squared_error[split.source == i].mean()))
    for i, name in enumerate(split.source_names)
  }


def loggable(figures: Mapping[str, Any]) -> dict[str, Any]:
  """Flattens figures of `describe` to scalars and vectors by name."""
  flat = {k: v for k, v in figures.items() if isinstance(v, float)}
  for book in figures.get("codebooks", ()):
    for name in ("selection", "usage", "perplexity"):
      key = name if name == "selection" else f"codebook_{name}"
      flat.setdefault(key, []).append(book[name])
  if "selection" in figures:
    flat["selection"] = figures["selection"]
  if "codebooks" not in figures:
    for stream in figures.get("streams", ()):
      for name in ("usage", "perplexity"):
        flat[f"{stream['name']}_{name}"] = stream[name]
  for source, value in figures.get("psnr_per_source", {}).items():
    flat[f"psnr_{source}"] = value
  return flat
