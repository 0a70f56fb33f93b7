"""Evaluation over a whole split."""

from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from adq_jax import AdaptiveQuantizer
from adq_jax import code_counts
from adq_jax import coded_rate
from adq_jax import nominal_rate
from adq_jax import perplexity
from adq_jax import psnr
from adq_jax import sharding
from adq_jax import usage
from adq_jax import VectorQuantizer
from adq_jax import VQVAE
from experiments import augment
from experiments import hosts
from experiments import settings
from experiments.data import pipeline
from experiments.data.split import Split
from experiments.devices import AXIS
from experiments.devices import of_all_processes
from experiments.devices import shard
from experiments.devices import unreplicate
from experiments.devices import unshard


@dataclasses.dataclass(frozen=True)
class Evaluation:
  """What one pass over a split gives.

  Attributes:
    squared_error: mean over each image's pixels, float32 `[n]`.
    counts: for each codebook, how often decoding takes each codeword, float64
      `[N_i]`: once for each point that chose it, except where a point takes
      several (see `AdaptiveQuantizer.sent`).
    selection: how many points chose each codebook, float64 `[m]`.
  """

  squared_error: np.ndarray
  counts: tuple[np.ndarray, ...]
  selection: np.ndarray


class Evaluator:
  """Runs a model over splits, sharing batches among devices.

  Of several processes all must ask for the same.
  """

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    model: VQVAE,
    devices: Sequence[jax.Device],
  ):
    sizes = [codebook_size for codebook_size, _ in settings.structures(config)]
    is_adaptive = config.quantizer.kind == "adaptive"
    key = jax.random.key(config.seed)
    count = _shard_counts if config.quantizer.shard_codebook else _counts

    def step(variables, images, indices, mask, draw):
      choice = {"draw": draw, "example_index": indices} if is_adaptive else {}
      result = model.apply(
        variables, augment.to_float(images), rngs={"gumbel": key}, **choice
      )
      book, index, is_sent = sent_codes(model.quantizer, result.quantized.codes)
      real = jnp.broadcast_to(mask[:, None, None], book.shape)
      counted = is_sent & (real > 0)[..., None]
      return {
        "squared_error": result.squared_error,
        "images": result.images,
        "book": book,
        "counts": [
          count(index[..., i], size, counted[..., i])
          for i, size in enumerate(sizes)
        ],
        "selection": code_counts(book, len(sizes), mask=real, axis_name=AXIS),
      }

    self._step = jax.pmap(
      step,
      AXIS,
      devices=of_all_processes(devices),
      in_axes=(0, 0, 0, 0, None),
    )
    self._is_sharded = config.quantizer.shard_codebook
    self._draw = config.quantizer.draw_in_evaluation
    self._num_devices = len(devices)
    self._batch_size = config.batch_size
    self._image_size = config.data.image_size

  def evaluate(
    self, variables: Any, split: Split, *, draw: bool | None = None
  ) -> Evaluation:
    """Evaluates every image of a split once.

    Args:
      variables: of the model, replicated.
      split: the images; of larger ones, the centre.
      draw: whether an adaptive model draws its choice, at temperature 1; by
        default as the config says.
    """
    rows, total = _Rows(), None
    for result, mask in self._run(variables, split, draw):
      rows.add(mask, result["squared_error"])
      counts, selection = result["counts"], unreplicate(result["selection"])
      if self._is_sharded:
        counts = [unshard(x) for x in counts]
      else:
        counts = unreplicate(counts)
      counts = jax.tree.map(
        lambda x: np.asarray(x, np.float64), (counts, selection)
      )
      total = jax.tree.map(np.add, total, counts) if total else counts
    counts, selection = total
    if self._is_sharded:
      counts = [hosts.gather(x) for x in counts]
    (squared_error,) = rows.gather()
    return Evaluation(squared_error, tuple(counts), selection)

  def reconstruct(
    self, variables: Any, split: Split
  ) -> tuple[np.ndarray, np.ndarray]:
    """Returns reconstructions float32 `[n, H, W, C]`, and their codebooks.

    Args:
      variables: of the model, replicated.
      split: the images; of larger ones, the centre.

    Returns:
      also the codebook of every position, int32 `[n, h, w]`; all zeros where
      there is one.
    """
    rows = _Rows()
    for result, mask in self._run(variables, split):
      rows.add(mask, result["images"], result["book"])
    images, books = rows.gather()
    return images, books

  def _run(
    self, variables: Any, split: Split, draw: bool | None = None
  ) -> Iterator[tuple[dict[str, jax.Array], np.ndarray]]:
    """Yields the results of every batch, on the devices, and its mask.

    The results are of this process's part of the batch, the mask of the whole.
    """
    draw = self._draw if draw is None else draw
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


def sent_codes(
  quantizer: AdaptiveQuantizer | VectorQuantizer, codes: Any
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Returns what decoding takes of each codebook, of a pool or of one.

  Args:
    quantizer: of a model.
    codes: of the quantizer, `[B, h, w]`.

  Returns:
    The codebook of each position, int32 `[B, h, w]`; and the two of
    a pool: the index of each codebook and whether it is
    needed, `[B, h, w, m]`.
  """
  if isinstance(quantizer, AdaptiveQuantizer):
    indices = quantizer.to_streams(codes)[-len(quantizer.structures) :]
    is_sent = [
      jnp.ones_like(codes.book, bool)
      if len(indices) == 1
      else quantizer.sent(i + 1, [codes.book])
      for i in range(len(indices))
    ]
    return codes.book, jnp.stack(indices, -1), jnp.stack(is_sent, -1)
  index = codes[..., None]
  return jnp.zeros_like(codes), index, jnp.ones_like(index, bool)


def _counts(index: jax.Array, size: int, mask: jax.Array) -> jax.Array:
  """Counts over all devices, `[N]` on each."""
  return code_counts(index, size, mask=mask, axis_name=AXIS)


def _shard_counts(index: jax.Array, size: int, mask: jax.Array) -> jax.Array:
  """The same where each device is to have its shard's, `[N / n]`."""
  size //= jax.lax.axis_size(AXIS)
  index, mask = sharding.gather((index.reshape(-1), mask.reshape(-1)), AXIS)
  return code_counts(
    sharding.codes_in_shard(index, size, AXIS), size, mask=mask
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
  structures = settings.structures(config)
  mse = float(evaluation.squared_error.mean(dtype=np.float64))
  selection = evaluation.selection
  sent = np.array([counts.sum() for counts in evaluation.counts])
  rate = float(nominal_rate(selection, [n for n, _ in structures], sent))
  figures = {
    "recon_loss_sum": mse * len(split) / config.data.paper_batch_size,
    "mse": mse,
    "psnr": float(psnr(mse)),
    "rate_nominal": rate,
    "rate_nominal_per_pixel": rate / config.model.downsampling**2,
    "perplexity": float(perplexity(np.concatenate(evaluation.counts))),
    "usage": float(usage(np.concatenate(evaluation.counts))),
    "codebooks": [
      {
        "structure": list(structure),
        "selection": float(chosen / selection.sum()),
        "usage": float(usage(counts)),
        "perplexity": float(perplexity(counts)),
      }
      for structure, chosen, counts in zip(
        structures, selection, evaluation.counts, strict=True
      )
    ],
  }
  if split.source_names:
    figures["psnr_per_source"] = per_source_psnr(
      evaluation.squared_error, split
    )
  return figures


def describe_coded_rate(
  config: ml_collections.ConfigDict,
  evaluation: Evaluation,
  reference: Evaluation,
) -> dict[str, float]:
  """Returns the rate under code frequencies of the training split."""
  rate = float(
    coded_rate(
      evaluation.counts,
      reference.counts,
      evaluation.selection,
      reference.selection,
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
