"""What each code costs each point of a batch, and the bits that it takes.

Shapes: T points of B examples, K prices, A codes of a stream, D the width of
codewords.
"""

from collections.abc import Mapping
import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from adq_jax import checks
from adq_jax import collectives
from adq_jax import masks
from adq_jax.codebook import lookup
from adq_jax.codebook.statistics import Batch
from adq_jax.quantizers.base import Quantizer
from adq_jax.quantizers.price import AbstractPrice

TABLES = "rates"
"""The collection with the bits of codes at several prices, if it is given.

It has `prices`, float32 `[K]`, positive and ascending, and by the name of each
stream the bits of its codes, float32 `[K, A]`: all of them on every device, of
a sharded codebook too.
"""

_PRICES = "prices"


@dataclasses.dataclass(frozen=True)
class Tariff:
  """What each code costs each point.

  Attributes:
    rate_weight: what a bit costs, float32 `[T]`.
    shares: how the bits of K tables are mixed, float32 `[T, K]`; a row adds up
      to 1.
    tables: by the name of a stream, the bits of its codes, float32 `[K, A]`;
      with `shard_axis`, of this device's codes, `[K, A / n]`.
    shard_axis: the mapped axis over whose n devices the codes are cut; None
      where they are not cut.
  """

  rate_weight: jax.Array
  shares: jax.Array
  tables: Mapping[str, jax.Array]
  shard_axis: str | None = None

  def search_arguments(self, name: str, width: int) -> dict[str, jax.Array]:
    """Returns what `nearest_codes` adds to squared distances of a width."""
    price = width * self.rate_weight[:, None] * self.shares
    return {"penalty": self.tables[name], "price": price}

  def charges(self, name: str, width: int) -> jax.Array:
    """Returns what all codes of a stream cost, float32 `[T, A]`.

    It is for streams of few codes, which are not cut.  The unit is that of
    squared distances of a width.
    """
    # In float32 in full, where a TPU would round to bfloat16.
    bits = jnp.matmul(
      self.shares, self.tables[name], precision=jax.lax.Precision.HIGHEST
    )
    return width * self.rate_weight[:, None] * bits

  def bits(self, name: str, codes: jax.Array) -> jax.Array:
    """Returns the bits of codes int32 `[T]` of a stream, float32 `[T]`."""
    rows = self.tables[name].T
    size = len(rows) * collectives.num_shards(self.shard_axis)
    of_codes = lookup.take(codes, rows, size, self.shard_axis)
    return (self.shares * of_codes).sum(axis=-1)


def search_arguments(
  tariff: Tariff | None, name: str, width: int
) -> dict[str, jax.Array]:
  """Returns what a search of a stream takes; nothing without a tariff."""
  return {} if tariff is None else tariff.search_arguments(name, width)


def rate_of(
  tariff: Tariff | None, codes: Mapping[str, jax.Array], batch: Batch
) -> dict[str, jax.Array]:
  """Returns the metric `rate`, bits per point; nothing without a tariff.

  Under a mapped axis it is that of all devices.

  Args:
    tariff: of the batch.
    codes: by the names of streams, those that are sent, int32 `[T]`; negative
      where none is.
    batch: of the step.
  """
  if tariff is None:
    return {}
  bits = sum(
    masks.keep(tariff.bits(name, jnp.maximum(own, 0)), own >= 0)
    for name, own in codes.items()
  )
  rate = masks.mean(bits, batch.is_real, batch.axis_name)
  if batch.axis_name is not None:
    rate = jax.lax.pmean(rate, batch.axis_name)
  return {"rate": rate}


def make_tariff(
  module: Quantizer,
  price: AbstractPrice,
  rate_weight: jax.Array | float | None,
  shape: tuple[int, ...],
  running: Mapping[str, jax.Array],
  *,
  shard_axis: str | None = None,
  train: bool,
) -> Tariff:
  """Returns the tariff of a batch.

  In training it has the running bits; in evaluation coded ones are those of the
  collection `TABLES`, if there is one; streams that are coded by entropy are so
  whatever the price is.  Between two of its prices, bits are
  interpolated by the logarithm of the price.  Its tables are whole on every
  device, also those of a sharded codebook, which takes its part of them.

  Args:
    module: the quantizer, bound to its variables.
    price: its price.
    rate_weight: what a bit costs: a number, or one for each example, `[B]`;
      None: what the price says.
    shape: of the positions, `[...]`, T in all; B come first.
    running: by the name of each stream, the bits of its codes, float32 `[A]`;
      with `shard_axis`, of this device's, `[A / n]`.
    shard_axis: the mapped axis over whose n devices the codes are cut.
    train: whether it is for a step of training.

  Raises:
    ValueError: if the price is negative or not finite, or has another shape, or
      the tables are of another quantizer.
  """
  if rate_weight is None:
    rate_weight = price.rate_weight
  weight = at_positions(rate_weight, shape).reshape(-1)
  if train or not module.has_variable(TABLES, _PRICES):
    shares = jnp.ones((weight.shape[0], 1), jnp.float32)
    tables = {name: bits[None] for name, bits in running.items()}
    return Tariff(weight, shares, tables, shard_axis)
  prices = _table(module, _PRICES, 1)
  coded = {s.name for s in module.streams if s.coding == "entropy"}
  tables = {}
  for name, bits in running.items():
    if not price.is_coded and name not in coded:
      tables[name] = jnp.broadcast_to(bits, (len(prices), len(bits)))
      continue
    table = _table(module, name, 2)
    checks.check_shape(
      f'{name} in the collection "{TABLES}"',
      table,
      (len(prices), len(bits) * collectives.num_shards(shard_axis)),
      "for each price the bits of each code",
    )
    if shard_axis is not None:
      table = collectives.part_of_device(table.T, shard_axis).T
    tables[name] = table
  rows = jnp.arange(len(prices), dtype=jnp.float32)
  inside = jnp.clip(weight, prices[0], prices[-1])
  place = jnp.interp(jnp.log(inside), jnp.log(prices), rows)
  shares = jnp.maximum(1 - jnp.abs(place[:, None] - rows[None]), 0.0)
  return Tariff(weight, shares, tables, shard_axis)


def _table(module: nn.Module, name: str, rank: int) -> jax.Array:
  """Returns an array of the collection `TABLES`, float32."""
  table = module.get_variable(TABLES, name)
  checks.check_floating(
    f'{name} in the collection "{TABLES}"', table, rank=rank
  )
  return jnp.asarray(table, jnp.float32)  # NumPy's take no traced index


def at_positions(
  rate_weight: jax.Array | float, shape: tuple[int, ...]
) -> jax.Array:
  """Returns the price of each position, float32 `[...]`.

  Args:
    rate_weight: a number, or one for each example, `[B]`.
    shape: of the positions, `[...]`; B come first.

  Raises:
    ValueError: if it is negative or not finite, or has another shape.
  """
  if jnp.shape(rate_weight) not in ((), shape[:1]):
    raise ValueError(
      f"rate_weight has shape {jnp.shape(rate_weight)}; it must be a number, or"
      f" {shape[:1]}, one for each example"
    )
  checks.check_not_negative("rate_weight", rate_weight, is_finite=True)
  weight = jnp.asarray(rate_weight, jnp.float32)
  if weight.ndim:
    weight = weight.reshape(-1, *(1,) * (len(shape) - 1))
  return jnp.broadcast_to(weight, shape)
