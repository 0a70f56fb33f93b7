"""Runs a model over every image of a split."""

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
from adq_jax import Stream
from adq_jax import streams as streams_lib
from adq_jax import VQVAE
from experiments.data import augment
from experiments.data import pipeline
from experiments.data.split import Split
from experiments.model import rate_weights
from experiments.processes import hosts
from experiments.processes.devices import AXIS
from experiments.processes.devices import of_all_processes
from experiments.processes.devices import shard
from experiments.processes.devices import unreplicate
from experiments.processes.devices import unshard


@dataclasses.dataclass(frozen=True)
class Evaluation:
  """The result of one pass over a split.

  Attributes:
    streams: those of the model.
    squared_error: the mean over each image's pixels, float32 `[n]`.
    counts: how often each symbol of the streams is sent, float64 `[A]` for each
      of `adq_jax.streams.symbols`.
    positions: the number of positions of the finest grid, over all images.
  """

  streams: tuple[Stream, ...]
  squared_error: np.ndarray
  counts: tuple[np.ndarray, ...]
  positions: int

  @property
  def symbols(self) -> tuple[streams_lib.Symbol, ...]:
    """The symbols that `counts` are of."""
    return streams_lib.symbols(self.streams)


class Evaluator:
  """Runs a model over splits, with each batch shared among devices.

  Where there are several processes, all of them must make the same calls.

  Attributes:
    model: the model that is run.
    symbols: in which the codes of its streams are counted.
    devices: of this process, over which it is run.
    draws_by_default: whether the config asks for sampled codes.
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

    def counts_of(codes, mask):
      values, masks = streams_lib.sent_streams(model, codes)
      counts, sent = [], []
      for symbol, is_sharded in zip(symbols, self._is_sharded, strict=True):
        count = _shard_counts if is_sharded else _counts
        joined = symbol.join(values)
        is_sent = masks[symbol.members[0]]
        is_counted = is_sent & (mask > 0)[:, None, None]
        counts.append(count(joined, symbol.alphabet, is_counted))
        sent.append(jnp.where(is_sent, joined, -1))
      return values, counts, sent

    def step(variables, images, indices, mask, draw, rate_weight):
      result = model.apply(
        variables,
        augment.to_float(images),
        rngs={"gumbel": key},
        draw=draw,
        example_index=indices,
        rate_weight=rate_weight,
      )
      values, counts, sent = counts_of(result.quantized.codes, mask)
      choice = streams_lib.choice_of(model.streams)
      return {
        "squared_error": result.squared_error,
        "images": result.images,
        "choice": () if choice is None else values[choice],
        "counts": counts,
        "codes": sent,
      }

    def count(variables, images, mask, prices):
      z = model.apply(
        variables, augment.to_float(images), method=lambda m, x: m.encoder(x)
      )

      def at(rate_weight):
        codes = model.apply(
          variables,
          z,
          method=lambda m, z: m.quantizer.encode(z, rate_weight=rate_weight),
        )
        return counts_of(codes, mask)[1]

      # Codewords come first, as where there is no axis of prices.
      return [jnp.moveaxis(x, 0, -1) for x in jax.lax.map(at, prices)]

    self.model = model
    self.symbols = symbols
    self.devices = devices
    self._rate_weight = rate_weights.middle(config)
    self.draws_by_default = config.sampling.draw_in_evaluation
    self._step = jax.pmap(
      step,
      AXIS,
      devices=of_all_processes(devices),
      in_axes=(0, 0, 0, 0, None, None),
    )
    self._count = jax.pmap(
      count,
      AXIS,
      devices=of_all_processes(devices),
      in_axes=(0, 0, 0, None),
    )
    self._num_devices = len(devices)
    self._batch_size = config.batch_size
    self._image_size = config.data.image_size
    self._downsampling = config.model.downsampling

  def evaluate(
    self,
    variables: Any,
    split: Split,
    *,
    draw: bool | None = None,
    rate_weight: float | None = None,
  ) -> Evaluation:
    """Evaluates every image of a split once.

    Args:
      variables: those of the model, replicated.
      split: the images; larger ones are cut to their centre.
      draw: whether a model that can sample its codes does so, at temperature 1;
        by default the config decides.
      rate_weight: what a bit costs; by default the middle of the prices that
        the config has for training, or what the quantizer's field says.
    """
    collector, counted = _RowCollector(), _CountCollector(self._is_sharded)
    for result, mask in self._run(variables, split, draw, rate_weight):
      collector.add(mask, result["squared_error"])
      counted.add(result["counts"])
    (squared_error,) = collector.gather()
    side = self._image_size // self._downsampling
    return Evaluation(
      self.model.streams,
      squared_error,
      tuple(counted.gather()),
      len(squared_error) * side**2,
    )

  def reconstruct(
    self, variables: Any, split: Split, *, rate_weight: float | None = None
  ) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns reconstructions, and the choice of each position.

    Args:
      variables: those of the model, replicated.
      split: the images; larger ones are cut to their centre.
      rate_weight: as of `evaluate`.

    Returns:
      The reconstructions float32 `[n, H, W, C]`, and the codes of the stream
      that `choice_of` names, int32 `[n, h, w]`; None where there is no such
      stream.
    """
    collector = _RowCollector()
    has_choice = streams_lib.choice_of(self.model.streams) is not None
    for result, mask in self._run(variables, split, rate_weight=rate_weight):
      collector.add(mask, result["images"], *[result["choice"]] * has_choice)
    images, *choice = collector.gather()
    return images, choice[0] if choice else None

  def codes(
    self, variables: Any, split: Split, *, rate_weight: float | None = None
  ) -> list[np.ndarray]:
    """Returns the symbols that each image takes.

    Args:
      variables: those of the model, replicated.
      split: the images; larger ones are cut to their centre.
      rate_weight: as of `evaluate`.

    Returns:
      int32 `[n, h, w]` for each of `adq_jax.streams.symbols`, -1 where none is
      sent.
    """
    collector = _RowCollector()
    for result, mask in self._run(variables, split, rate_weight=rate_weight):
      collector.add(mask, *result["codes"])
    return collector.gather()

  def count(
    self, variables: Any, split: Split, prices: Sequence[float]
  ) -> list[tuple[np.ndarray, ...]]:
    """Returns how often each symbol is sent, for each of several prices.

    Images are encoded once, and quantized for each price.

    Args:
      variables: those of the model, replicated.
      split: the images.
      prices: of a bit, K of them.

    Returns:
      for each price, counts float64 `[A]` for each symbol.
    """
    counted = _CountCollector(self._is_sharded)
    of_bit = np.asarray(prices, np.float32)
    for images, _, mask, _ in self._batches(split):
      counted.add(self._count(variables, images, mask, of_bit))
    total = counted.gather()
    return [tuple(x[:, k] for x in total) for k in range(len(prices))]

  def _run(
    self,
    variables: Any,
    split: Split,
    draw: bool | None = None,
    rate_weight: float | None = None,
  ) -> Iterator[tuple[dict[str, jax.Array], np.ndarray]]:
    """Yields the results of every batch, on the devices, and its mask.

    The results belong to this process's part of the batch; the mask belongs to
    the global batch.
    """
    draw = self.draws_by_default if draw is None else draw
    rate_weight = self._rate_weight if rate_weight is None else rate_weight
    for images, indices, mask, whole_mask in self._batches(split):
      result = self._step(variables, images, indices, mask, draw, rate_weight)
      yield result, whole_mask

  def _batches(self, split: Split) -> Iterator[tuple[np.ndarray, ...]]:
    """Yields batches of a split as devices take them.

    Images, their places in the split and their mask are cut for this process's
    devices; the last array is the mask of the global batch.
    """
    batches = pipeline.EvalBatches(
      split.images,
      self._batch_size,
      process_index=jax.process_index(),
      process_count=jax.process_count(),
    )
    for images, indices, mask in pipeline.iterate(batches):
      images = augment.crop_centre(images, self._image_size)
      batch = (images, indices, hosts.own_part(mask))
      yield *(shard(x, self._num_devices) for x in batch), mask


class _RowCollector:
  """Collects results `[devices, B, ...]` and drops the rows of padding."""

  def __init__(self):
    self._masks, self._batches = [], []

  def add(self, mask: np.ndarray, *results: jax.Array) -> None:
    """Adds a batch; the mask of the global batch is 1 for a real row."""
    self._masks.append(mask > 0)
    self._batches.append([unshard(x) for x in results])

  def gather(self) -> list[np.ndarray]:
    """Returns the real rows `[n, ...]` of all processes, in order."""
    is_real = np.stack(self._masks)  # [batches, B]
    gathered = (
      # Rows come first, since `gather` joins processes along the first axis.
      hosts.gather(np.stack(batches, axis=1))
      for batches in zip(*self._batches, strict=True)
    )
    return [x.swapaxes(0, 1)[is_real] for x in gathered]


class _CountCollector:
  """Adds up how often each symbol is sent, in all batches."""

  def __init__(self, is_sharded: Sequence[bool]):
    """Takes whether devices share codes out, of each symbol."""
    self._is_sharded, self._total = is_sharded, None

  def add(self, counts: Sequence[jax.Array]) -> None:
    """Adds a batch: for each symbol `[devices, A, ...]`, or `[devices, A / n]`.

    Those of a sharded codebook are of this process's devices, the others those
    of all on each.
    """
    own = [
      np.asarray(unshard(x) if is_sharded else unreplicate(x), np.float64)
      for x, is_sharded in zip(counts, self._is_sharded, strict=True)
    ]
    total = self._total
    self._total = own if total is None else jax.tree.map(np.add, total, own)

  def gather(self) -> list[np.ndarray]:
    """Returns the sums of all processes, float64 `[A, ...]`; `[]` of none."""
    if self._total is None:
      return []
    return [
      hosts.gather(x) if is_sharded else x
      for x, is_sharded in zip(self._total, self._is_sharded, strict=True)
    ]


def _counts(index: jax.Array, size: int, mask: jax.Array) -> jax.Array:
  """Counts over all devices, `[N]` on each."""
  return code_counts(index, size, mask=mask, axis_name=AXIS)


def _shard_counts(index: jax.Array, size: int, mask: jax.Array) -> jax.Array:
  """Counts over all devices; each gets the counts of its shard, `[N / n]`."""
  size //= jax.lax.axis_size(AXIS)
  index, mask = collectives.gather((index.reshape(-1), mask.reshape(-1)), AXIS)
  return code_counts(
    collectives.codes_in_shard(index, size, AXIS), size, mask=mask
  )
