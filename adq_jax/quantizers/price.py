"""What bits cost: a choice by rate and distortion.

A quantizer with a price looks for the least

    |z - q|^2 / D + rate_weight x bits

instead of the nearest codeword, as in entropy-constrained vector quantization
(Chou, Lookabaugh and Gray, 1989).  So points take cheap codes unless a dear one
pays.  `rate_weight` may change from call to call: one quantizer serves many
rates.

Shapes: T points of B examples, K prices, N codewords, D their width.
"""

import abc
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import math
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from adq_jax import checks
from adq_jax import collectives
from adq_jax import masks
from adq_jax import options
from adq_jax.codebook.statistics import Batch

TABLES = "rates"
"""The collection with the bits of codes at several prices, if it is given.

It has `prices`, float32 `[K]`, positive and ascending, and by the name of each
stream the bits of its codes, float32 `[K, A]`.
"""

_PRICES = "prices"
_SMOOTHING = 1e-3  # of the mean, added to every codeword's count


class AbstractPrice(options.Option, abc.ABC):
  """What a slot `price` takes: a frozen dataclass.

  Attributes:
    is_charged: whether bits cost anything, ever.
    is_coded: whether bits are those of an entropy code, which the collection
      `TABLES` may give.
    rate_weight: what a bit costs where a call does not say it.
  """

  is_charged: ClassVar[bool] = True
  is_coded: ClassVar[bool] = False
  rate_weight: float

  def check(self) -> None:
    """Raises a ValueError, "FIELD is X; it must be Y", if one does not fit."""
    checks.check_at_least("rate_weight", self.rate_weight, 0)

  @abc.abstractmethod
  def bits(self, cluster_size: jax.Array) -> jax.Array:
    """Returns the bits that each codeword takes, float32 `[N]`, 0 or more.

    Args:
      cluster_size: how often each is used, float32 `[N]`.
    """


@dataclasses.dataclass(frozen=True)
class NoPrice(AbstractPrice):
  """Bits cost nothing: points take the nearest codewords.

  Example:
    >>> from adq_jax import NoPrice, VectorQuantizer
    >>> VectorQuantizer(512, 64).price
    NoPrice()
  """

  is_charged: ClassVar[bool] = False
  rate_weight: ClassVar[float] = 0.0

  def bits(self, cluster_size: jax.Array) -> jax.Array:
    """Returns zeros."""
    return jnp.zeros_like(cluster_size)


@dataclasses.dataclass(frozen=True)
class NominalPrice(AbstractPrice):
  """Every codeword takes log2 N bits, as where codes are sent as they are.

  Within one codebook this changes nothing.  It decides how many stages of a
  `ResidualQuantizer` a point takes.

  Attributes:
    rate_weight: what a bit costs where a call does not say it.

  Example:
    >>> from adq_jax import NominalPrice, ResidualQuantizer
    >>> quantizer = ResidualQuantizer(4, 64, 32, price=NominalPrice(1e-3))
    >>> quantizer.streams[0].name
    'depth'
  """

  rate_weight: float = 0.0

  def bits(self, cluster_size: jax.Array) -> jax.Array:
    """Returns log2 N for each."""
    return jnp.full_like(cluster_size, math.log2(len(cluster_size)))


@dataclasses.dataclass(frozen=True)
class CodedPrice(AbstractPrice):
  """A codeword takes the bits of an entropy code: -log2 of its frequency.

  The frequencies are the running ones of the collection `"codebook"`, with
  0.1% of their mean added to each; or those of the collection `"rates"`, where
  that is given.

  Attributes:
    rate_weight: what a bit costs where a call does not say it.

  Example:
    >>> import jax.numpy as jnp
    >>> from adq_jax import CodedPrice
    >>> bits = CodedPrice().bits(jnp.array([2.0, 1.0, 1.0]))
    >>> print([f"{x:.2f}" for x in bits])
    ['1.00', '2.00', '2.00']
  """

  rate_weight: float = 0.0

  is_coded: ClassVar[bool] = True

  def bits(self, cluster_size: jax.Array) -> jax.Array:
    """Returns -log2 of how often each is used."""
    return coded_bits(cluster_size)


def coded_bits(counts: jax.Array) -> jax.Array:
  """Returns -log2 of smoothed frequencies, float32 `[N]`, 0 or more.

  Args:
    counts: how often each code is used, float32 `[N]`; where none was ever, all
      are as frequent.
  """
  counts = counts.astype(jnp.float32)  # of variables in half precision too
  mean = collectives.add_up(counts) / len(counts)
  share = jnp.where(mean > 0, counts / jnp.where(mean > 0, mean, 1.0), 1.0)
  most = math.log2(len(counts) * (1 + _SMOOTHING))
  return jnp.maximum(most - jnp.log2(share + _SMOOTHING), 0.0)


@dataclasses.dataclass(frozen=True)
class Tariff:
  """What each code costs each point.

  Attributes:
    rate_weight: what a bit costs, float32 `[T]`.
    shares: how the bits of K tables are mixed, float32 `[T, K]`; a row adds up
      to 1.
    tables: by the name of a stream, the bits of its codes, float32 `[K, A]`.
  """

  rate_weight: jax.Array
  shares: jax.Array
  tables: Mapping[str, jax.Array]

  def search_arguments(self, name: str, width: int) -> dict[str, jax.Array]:
    """Returns what `nearest_codes` adds to squared distances of a width."""
    price = width * self.rate_weight[:, None] * self.shares
    return {"penalty": self.tables[name], "price": price}

  def charges(self, name: str, width: int) -> jax.Array:
    """Returns what all codes of a stream cost, float32 `[T, A]`.

    It is for streams of few codes.  The unit is that of squared distances of a
    width.
    """
    # In float32 in full, where a TPU would round to bfloat16.
    bits = jnp.matmul(
      self.shares, self.tables[name], precision=jax.lax.Precision.HIGHEST
    )
    return width * self.rate_weight[:, None] * bits

  def bits(self, name: str, codes: jax.Array) -> jax.Array:
    """Returns the bits of codes int32 `[T]` of a stream, float32 `[T]`."""
    return (self.shares * self.tables[name].T[codes]).sum(axis=-1)


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
  module: nn.Module,
  price: AbstractPrice,
  rate_weight: jax.Array | float | None,
  shape: tuple[int, ...],
  running: Mapping[str, jax.Array],
  *,
  always_coded: Sequence[str] = (),
  train: bool,
) -> Tariff:
  """Returns the tariff of a batch.

  In training it has the running bits; in evaluation coded ones are those of the
  collection `TABLES`, if there is one.  Between two of its prices, bits are
  interpolated by the logarithm of the price.

  Args:
    module: the quantizer, bound to its variables.
    price: its price.
    rate_weight: what a bit costs: a number, or one for each example, `[B]`;
      None: what the price says.
    shape: of the positions, `[...]`, T in all; B come first.
    running: by the name of each stream, the bits of its codes, float32 `[A]`.
    always_coded: names of streams that are coded whatever the price is.
    train: whether it is for a step of training.

  Raises:
    ValueError: if the price is negative or not finite, or has another shape, or
      the tables are of another quantizer.
  """
  if rate_weight is None:
    rate_weight = price.rate_weight
  weight = at_positions(rate_weight, shape).reshape(-1)
  if train or not module.has_variable(TABLES, _PRICES):
    shares = jnp.ones((len(weight), 1), jnp.float32)
    return Tariff(weight, shares, {n: x[None] for n, x in running.items()})
  prices = _table(module, _PRICES, 1)
  tables = {}
  for name, bits in running.items():
    shape = len(prices), len(bits)
    if not price.is_coded and name not in always_coded:
      tables[name] = jnp.broadcast_to(bits, shape)
      continue
    tables[name] = _table(module, name, 2)
    checks.check_shape(
      f'{name} in the collection "{TABLES}"',
      tables[name],
      shape,
      "for each price the bits of each code",
    )
  rows = jnp.arange(len(prices), dtype=jnp.float32)
  inside = jnp.clip(weight, prices[0], prices[-1])
  place = jnp.interp(jnp.log(inside), jnp.log(prices), rows)
  shares = jnp.maximum(1 - jnp.abs(place[:, None] - rows[None]), 0.0)
  return Tariff(weight, shares, tables)


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
