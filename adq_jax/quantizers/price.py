"""What bits cost: a choice by rate and distortion.

A quantizer with a price looks for the least

    |z - q|^2 / D + rate_weight x bits

instead of the nearest codeword, as in entropy-constrained vector quantization
(Chou, Lookabaugh and Gray, 1989).  So points take cheap codes unless a dear one
pays.  `rate_weight` may change from call to call: one quantizer serves many
rates.

Shapes: N codewords, D their width.
"""

import abc
import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp

from adq_jax import checks
from adq_jax import collectives
from adq_jax import options

_SMOOTHING = 1e-3  # of the mean, added to every codeword's count


class AbstractPrice(options.Option, abc.ABC):
  """What a slot `price` takes: a frozen dataclass.

  Attributes:
    is_charged: whether bits cost anything, ever.
    is_coded: whether bits are those of an entropy code, which the collection
      `"rates"` may give.
    rate_weight: what a bit costs where a call does not say it.
  """

  is_charged: ClassVar[bool] = True
  is_coded: ClassVar[bool] = False
  rate_weight: float

  def check(self) -> None:
    """Raises a ValueError, "FIELD is X; it must be Y", if one does not fit."""
    checks.check_at_least("rate_weight", self.rate_weight, 0)

  @abc.abstractmethod
  def bits(
    self, cluster_size: jax.Array, shard_axis: str | None = None
  ) -> jax.Array:
    """Returns the bits that each codeword takes, float32 `[N]`, 0 or more.

    Args:
      cluster_size: how often each is used, float32 `[N]`; with `shard_axis`,
        this device's codewords, `[N / n]`, as are the bits.
      shard_axis: the mapped axis over whose n devices the codebook is cut; it
        is given for a sharded codebook alone.
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

  def bits(
    self, cluster_size: jax.Array, shard_axis: str | None = None
  ) -> jax.Array:
    """Returns zeros."""
    del shard_axis
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

  def bits(
    self, cluster_size: jax.Array, shard_axis: str | None = None
  ) -> jax.Array:
    """Returns log2 N for each."""
    size = len(cluster_size) * collectives.num_shards(shard_axis)
    return jnp.full_like(cluster_size, math.log2(size))


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

  def bits(
    self, cluster_size: jax.Array, shard_axis: str | None = None
  ) -> jax.Array:
    """Returns -log2 of how often each is used."""
    return coded_bits(cluster_size, shard_axis)


def coded_bits(counts: jax.Array, shard_axis: str | None = None) -> jax.Array:
  """Returns -log2 of smoothed frequencies, float32 `[N]`, 0 or more.

  Args:
    counts: how often each code is used, float32 `[N]`; where none was ever, all
      are as frequent.
    shard_axis: the mapped axis over whose n devices the codes are cut, which
      then have `[N / n]` of the counts and bits; None where they are not cut.
  """
  counts = counts.astype(jnp.float32)  # of variables in half precision too
  mean = collectives.mean(counts, shard_axis)
  share = jnp.where(mean > 0, counts / jnp.where(mean > 0, mean, 1.0), 1.0)
  size = len(counts) * collectives.num_shards(shard_axis)
  most = math.log2(size * (1 + _SMOOTHING))
  return jnp.maximum(most - jnp.log2(share + _SMOOTHING), 0.0)
