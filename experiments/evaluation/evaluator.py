"""Evaluation over a whole split."""

from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from adq_jax import code_counts
from adq_jax import collectives
from adq_jax import perplexity
from adq_jax import psnr
from adq_jax import Stream
from adq_jax import streams as streams_lib
from adq_jax import usage
from adq_jax import VQVAE
from experiments.data import augment
from experiments.data import pipeline
from experiments.data.split import Split
from experiments.processes import hosts
from experiments.processes.devices import AXIS
from experiments.processes.devices import of_all_processes
from experiments.processes.devices import shard
from experiments.processes.devices import unreplicate
from experiments.processes.devices import unshard


@dataclasses.dataclass(frozen=True)
class Evaluation:
  """What one pass over a split gives.

  Attributes:
    streams: of the model.
    squared_error: mean over each image's pixels, float32 `[n]`.
    counts: how often each symbol of the streams is sent, float64 `[A]` for each
      of `adq_jax.streams.symbols`.
    positions: of the finest grid, of all images.
  """

  streams: tuple[Stream, ...]
  squared_error: np.ndarray
  counts: tuple[np.ndarray, ...]
  positions: int

  @property
  def symbols(self) -> tuple[streams_lib.Symbol, ...]:
    """What was counted."""
    return streams_lib.symbols(self.streams)


class Evaluator:
  """Runs a model over splits, sharing batches among devices.

  Of several processes all must ask for the same.

  Attributes:
    model: that is run.
    draws_by_default: whether the config asks for drawn codes.
  """

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    model: VQVAE,
    devices: Sequence[jax.Device],
  ):
    key = jax.random.key(config.seed)
    symbols = streams_lib.symbols(model.streams)
    self._is_sharded = [
      symbol.alphabet == model.sharded_size for symbol in symbols
    ]

    def step(variables, images, indices, mask, draw):
      result = model.apply(
        variables,
        augment.to_float(images),
        rngs={"gumbel": key},
        draw=draw,
        example_index=indices,
      )
      values, masks = sent_streams(model, result.quantized.codes)
      counts = []
      for symbol, is_sharded in zip(symbols, self._is_sharded, strict=True):
        count = _shard_counts if is_sharded else _counts
        codes = symbol.join(values)
        is_sent = masks[symbol.members[0]] & (mask > 0)[:, None, None]
        counts.append(count(codes, symbol.alphabet, is_sent))
      choice = choice_of(model.streams)
      return {
        "squared_error": result.squared_error,
        "images": result.images,
        "choice": () if choice is None else values[choice],
        "counts": counts,
      }

    self.model = model
    self.draws_by_default = config.quantizer.draw_in_evaluation
    self._step = jax.pmap(
      step,
      AXIS,
      devices=of_all_processes(devices),
      in_axes=(0, 0, 0, 0, None),
    )
    self._num_devices = len(devices)
    self._batch_size = config.batch_size
    self._image_size = config.data.image_size
    self._downsampling = config.model.downsampling

  def evaluate(
    self, variables: Any, split: Split, *, draw: bool | None = None
  ) -> Evaluation:
    """Evaluates every image of a split once.

    Args:
      variables: of the model, replicated.
      split: the images; of larger ones, the centre.
      draw: whether a model that can draw its codes does, at temperature 1; by
        default as the config says.
    """
    rows, total = _Rows(), None
    for result, mask in self._run(variables, split, draw):
      rows.add(mask, result["squared_error"])
      counts = [
        np.asarray(unshard(x) if is_sharded else unreplicate(x), np.float64)
        for x, is_sharded in zip(
          result["counts"], self._is_sharded, strict=True
        )
      ]
      total = jax.tree.map(np.add, total, counts) if total else counts
    counts = [
      hosts.gather(x) if is_sharded else x
      for x, is_sharded in zip(total or [], self._is_sharded, strict=True)
    ]
    (squared_error,) = rows.gather()
    side = self._image_size // self._downsampling
    return Evaluation(
      self.model.streams,
      squared_error,
      tuple(counts),
      len(squared_error) * side**2,
    )

  def reconstruct(
    self, variables: Any, split: Split
  ) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns reconstructions, and what positions chose.

    Args:
      variables: of the model, replicated.
      split: the images; of larger ones, the centre.

    Returns:
      reconstructions float32 `[n, H, W, C]`; and the codes of the stream of
      `choice_of`, int32 `[n, h, w]`, None of a model that has none.
    """
    rows = _Rows()
    has_choice = choice_of(self.model.streams) is not None
    for result, mask in self._run(variables, split):
      rows.add(mask, result["images"], *[result["choice"]] * has_choice)
    images, *choice = rows.gather()
    return images, choice[0] if choice else None

  def _run(
    self, variables: Any, split: Split, draw: bool | None = None
  ) -> Iterator[tuple[dict[str, jax.Array], np.ndarray]]:
    """Yields the results of every batch, on the devices, and its mask.

    The results are of this process's part of the batch, the mask of the whole.
    """
    draw = self.draws_by_default if draw is None else draw
    batches = pipeline.EvalBatches(
      split.images,
      self._batch_size,
      process_index=jax.process_index(),
      process_count=jax.process_count(),
    )
    for images, indices, mask in pipeline.iterate(batches):
      images = crop_centre(images, self._image_size)
      batch = (images, indices, hosts.own(mask))
      shards = (shard(x, self._num_devices) for x in batch)
      yield self._step(variables, *shards, draw), mask


class _Rows:
  """What devices make of the rows of batches, `[devices, B, ...]` of each."""

  def __init__(self):
    self._masks, self._batches = [], []

  def add(self, mask: np.ndarray, *results: jax.Array) -> None:
    """Adds a batch; its mask, of all processes, is 1 for a real row."""
    self._masks.append(mask > 0)
    self._batches.append([unshard(x) for x in results])

  def gather(self) -> list[np.ndarray]:
    """Returns the real rows `[n, ...]` of all processes, in order."""
    is_real = np.stack(self._masks)  # [batches, B]
    wholes = (
      hosts.gather(np.stack(batches, axis=1))  # of processes come rows first
      for batches in zip(*self._batches, strict=True)
    )
    return [x.swapaxes(0, 1)[is_real] for x in wholes]


def sent_streams(
  model: VQVAE, codes: Any
) -> tuple[tuple[jax.Array, ...], tuple[jax.Array, ...]]:
  """Returns what a model sends of its codes.

  Args:
    model: any.
    codes: of the model.

  Returns:
    the codes of each stream int32 `[B, h, w]`, and whether they are sent, bool.
  """
  values = model.to_streams(codes)
  masks = []
  for k, value in enumerate(values):
    is_sent = model.sent(k, values[:k])
    masks.append(jnp.ones(value.shape, bool) if is_sent is None else is_sent)
  return values, tuple(masks)


def choice_of(streams: Sequence[Stream]) -> int | None:
  """Returns which stream is a choice with names, to be shown as a map."""
  return next((i for i, s in enumerate(streams) if s.labels), None)


def _counts(index: jax.Array, size: int, mask: jax.Array) -> jax.Array:
  """Counts over all devices, `[N]` on each."""
  return code_counts(index, size, mask=mask, axis_name=AXIS)


def _shard_counts(index: jax.Array, size: int, mask: jax.Array) -> jax.Array:
  """Counts over all devices; each gets its shard's counts, `[N / n]`."""
  size //= jax.lax.axis_size(AXIS)
  index, mask = collectives.gather((index.reshape(-1), mask.reshape(-1)), AXIS)
  return code_counts(
    collectives.codes_in_shard(index, size, AXIS), size, mask=mask
  )


def crop_centre(images: np.ndarray, size: int) -> np.ndarray:
  """Cuts images `[n, H, W, C]` down to `[n, size, size, C]`."""
  top = (images.shape[1] - size) // 2
  left = (images.shape[2] - size) // 2
  return images[:, top : top + size, left : left + size]


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
    _describe_symbol(symbol, own, evaluation.positions)
    for symbol, own in zip(symbols, counts, strict=True)
  ]
  if symbols:
    rate = float(
      streams_lib.nominal_rate(symbols, counts, evaluation.positions)
    )
    of_codewords = np.concatenate(
      [
        own
        for symbol, own in zip(symbols, counts, strict=True)
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
  if split.source_names:
    figures["psnr_per_source"] = per_source_psnr(
      evaluation.squared_error, split
    )
  return figures


def _describe_symbol(
  symbol: streams_lib.Symbol, counts: np.ndarray, positions: int
) -> dict[str, Any]:
  """The figures of what is counted of the streams; bits are of a position."""
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
  """The figures of each codebook, with the share of positions that chose it."""
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
  choice = choice_of(evaluation.streams)
  if choice is not None and evaluation.streams[choice].labels == titles:
    selection = of_stream[(choice,)] / of_stream[(choice,)].sum()
  return [
    {
      "structure": [stream.alphabet, stream.width],
      "selection": float(share),
      "usage": float(usage(counts)),
      "perplexity": float(perplexity(counts)),
    }
    for (stream, counts), share in zip(books, selection, strict=True)
  ]


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


def baselines(
  config: ml_collections.ConfigDict, split: Split
) -> dict[str, Any]:
  """Returns what two models without codes reach on a split, in dB.

  `resize` shrinks images by the model's downsampling factor and enlarges them
  again, bicubically; `mean_color` paints an image with its mean.
  """
  size, factor = config.data.image_size, config.model.downsampling

  @jax.jit
  def squared_errors(images: jax.Array) -> dict[str, jax.Array]:
    images = augment.to_float(images)
    n, height, width, channels = images.shape
    small = jax.image.resize(
      images, (n, height // factor, width // factor, channels), "cubic"
    )
    guesses = {
      "resize": jax.image.resize(small, images.shape, "cubic"),
      "mean_color": images.mean(axis=(1, 2), keepdims=True),
    }
    return {
      name: jnp.square(guess - images).mean(axis=(1, 2, 3))
      for name, guess in guesses.items()
    }

  errors = []
  batches = pipeline.EvalBatches(split.images, config.batch_size)
  for images, _, mask in pipeline.iterate(batches):
    batch = squared_errors(crop_centre(images, size))
    errors.append({name: np.asarray(e)[mask > 0] for name, e in batch.items()})
  result = {}
  for name in errors[0]:
    error = np.concatenate([batch[name] for batch in errors])
    result[name] = {"psnr": float(psnr(error.mean(dtype=np.float64)))}
    if split.source_names:
      result[name]["psnr_per_source"] = per_source_psnr(error, split)
  return result


def per_source_psnr(
  squared_error: np.ndarray, split: Split
) -> dict[str, float]:
  """Returns the PSNR in dB of each source's images."""
  return {
    name: float(psnr(squared_error[split.source == i].mean()))
    for i, name in enumerate(split.source_names)
  }
