"""Quantizers that keep the sign of each of a few numbers.

`LFQ`, lookup-free quantization (Yu et al., 2023), and `BSQ`, binary spherical
quantization (Zhao et al., 2024).

Shapes: C features of z, D bits of a point, T points, N = 2^D codes.
"""

import functools
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from adq_jax import checks
from adq_jax import masks
from adq_jax import sphere
from adq_jax.chunks import sum_chunks
from adq_jax.quantizers import grid

_MOST_IN_GROUP = 20  # bits whose codes are counted softly together
_AT_ONCE = 2**22  # probabilities of points that are held together


class BinaryQuantizer(grid.GridQuantizer):
  """What quantizers by signs share: their codes, and a loss of entropies.

  Softly, a point takes codeword c with a probability that is the softmax of
  -|p - c|^2 / temperature, where p is the point as it is compared.  Each point
  shall be sure of its codeword, and all points together shall use all of them:

      loss = commitment_cost * mean |p - sg(c)|^2 / D
        + entropy_weight * (mean entropy of a point
          - diversity_weight * entropy of the points' mean distribution)

  with entropies in nats.  The first is exact, since bits are independent given
  a point.  The second is exact over `bits_per_group` bits together; groups of
  them are added up, which is an upper bound that does not see how groups depend
  on each other.
  """

  num_bits: int
  features: int | None = None
  commitment_cost: float = 0.25
  entropy_weight: float = 0.1
  diversity_weight: float = 1.0
  temperature: float = 0.01
  bits_per_group: int = 18
  projection_init: str = "identity"
  axis_name: str | None = None

  decoding_fields: ClassVar[tuple[str, ...]] = ("num_bits", "features")

  stream_name = "bit"

  @property
  def alphabets(self) -> tuple[int, ...]:
    """2 for each bit."""
    return (2,) * self.num_bits

  @property
  def size(self) -> float:
    """How far the numbers of a codeword are from zero."""
    return 1.0

  @nn.nowrap
  def round(self, placed: jax.Array) -> jax.Array:
    """Returns the codes int32 `[T, D]`: 1 for a number above zero."""
    return (placed > 0).astype(jnp.int32)

  @nn.nowrap
  def to_numbers(self, codes: jax.Array) -> jax.Array:
    """Returns the numbers float32 `[..., D]` of codes."""
    return (2 * codes - 1).astype(jnp.float32) * self.size

  @nn.nowrap
  def compared(self, placed: jax.Array) -> jax.Array:
    """Returns points float32 `[T, D]` as they are compared with codewords."""
    return placed

  @nn.nowrap
  def loss(
    self,
    placed: jax.Array,
    error: jax.Array,
    is_real: jax.Array,
    axis_name: str | None,
  ) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Returns the loss, and both entropies in bits."""
    compared = self.compared(placed)
    if compared is not placed:
      numbers = self.to_numbers(self.round(placed))
      error = masks.mean_square(
        compared, jax.lax.stop_gradient(numbers), is_real, axis_name
      )
    logits = (4 * self.size / self.temperature) * compared
    of_points = masks.mean(
      binary_entropy(logits).sum(axis=-1), is_real, axis_name
    )
    of_batch = batch_entropy(logits, is_real, self.bits_per_group, axis_name)
    entropies = {"point_entropy": of_points, "batch_entropy": of_batch}
    loss = self.commitment_cost * error + self.entropy_weight * (
      of_points - self.diversity_weight * of_batch
    )
    return loss, {
      name: _over_devices(nats, axis_name) / jnp.log(2.0)
      for name, nats in entropies.items()
    }

  @nn.nowrap
  def check(self) -> None:
    """Raises a ValueError, "FIELD is X; it must be Y", if one does not fit."""
    super().check()
    checks.check_count("num_bits", self.num_bits)
    for name in ("commitment_cost", "entropy_weight", "diversity_weight"):
      checks.check_at_least(name, getattr(self, name), 0)
    if not self.temperature > 0:
      raise ValueError(f"temperature is {self.temperature}; it must be above 0")
    checks.check_count(
      "bits_per_group",
      self.bits_per_group,
      maximum=_MOST_IN_GROUP,
      why="since all codes of a group are counted",
    )


class LFQ(BinaryQuantizer):
  """Lookup-free quantization: the sign of each of a few numbers.

  The codewords are all vectors of +1 and -1.  A loss of entropies keeps them in
  use; see `BinaryQuantizer`, whose p is the point itself.

      quantizer = LFQ(18, features=64)  # 2^18 codes

  Where points are many times longer than `temperature`, as by default, every
  point is sure, and the loss has no gradient left: normalize the encoder's
  output, such as by `nn.GroupNorm(use_bias=False, use_scale=False)`.

  Attributes:
    num_bits: D.
    features: C, with 1x1 projections C -> D and D -> C around the signs; None
      where z has width D itself.
    commitment_cost: as of `BinaryQuantizer`, as are the four fields below.
    entropy_weight: of both entropies.
    diversity_weight: of the second, relative to the first.
    temperature: of the softmax, above 0.
    bits_per_group: how many bits are counted together, up to 20.
    projection_init: how the projections start: as parts of the `"identity"`, or
      random as in `"pytorch"`.
    axis_name: the mapped axis over which a training batch is spread.

  Example:
    >>> import jax.numpy as jnp
    >>> from adq_jax import LFQ
    >>> quantizer = LFQ(2, temperature=1.0)
    >>> result = quantizer.apply({}, jnp.array([[0.3, -0.2], [1.0, 0.5]]))
    >>> print(result.values, quantizer.to_index(result.codes))
    [[ 1. -1.]
     [ 1.  1.]] [1 3]
    >>> print(f"{result.metrics['batch_entropy']:.4f} bits")
    1.4914 bits
  """

  @nn.nowrap
  def place(self, points: jax.Array) -> jax.Array:
    """Returns the points as they are."""
    return points


class BSQ(BinaryQuantizer):
  """Binary spherical quantization: signs of points on the unit sphere.

  The codewords are all vectors of +1 and -1, divided by the square root of D.
  Points are moved to the sphere, so that they are never far from a codeword and
  need no commitment.  A loss of entropies keeps the codewords in use; see
  `BinaryQuantizer`, whose p is the point on the sphere.

      quantizer = BSQ(36, features=64, bits_per_group=9)

  The gradient of values to points on the sphere is that of a number divided by
  the square root of D, as in the paper.

  Attributes:
    num_bits: D.
    features: C, with 1x1 projections C -> D and D -> C around the signs; None
      where z has width D itself.
    commitment_cost: as of `BinaryQuantizer`, as are the four fields below.
    entropy_weight: of both entropies.
    diversity_weight: of the second, relative to the first.
    temperature: of the softmax, above 0.
    bits_per_group: how many bits are counted together, up to 20.
    projection_init: how the projections start: as parts of the `"identity"`, or
      random as in `"pytorch"`.
    axis_name: the mapped axis over which a training batch is spread.

  Example:
    >>> import jax.numpy as jnp
    >>> from adq_jax import BSQ
    >>> quantizer = BSQ(4)
    >>> result = quantizer.apply({}, jnp.array([3.0, -1.0, 1.0, -0.5]))
    >>> print(result.values, quantizer.to_index(result.codes))
    [ 0.5 -0.5  0.5 -0.5] 5
  """

  commitment_cost: float = 0.0
  temperature: float = 1.0

  @property
  def size(self) -> float:
    """1 / sqrt(D)."""
    return self.num_bits**-0.5

  @nn.nowrap
  def place(self, points: jax.Array) -> jax.Array:
    """Returns points on the unit sphere, divided by sqrt(D)."""
    return sphere.to_sphere(points) * self.size

  @nn.nowrap
  def compared(self, placed: jax.Array) -> jax.Array:
    """Returns points on the unit sphere."""
    return placed / self.size


def binary_entropy(logits: jax.Array) -> jax.Array:
  """Returns the entropy of each bit in nats, given its log odds."""
  return jax.nn.softplus(logits) - logits * jax.nn.sigmoid(logits)


def batch_entropy(
  logits: jax.Array,
  is_real: jax.Array,
  bits_per_group: int,
  axis_name: str | None = None,
  at_once: int = _AT_ONCE,
) -> jax.Array:
  """Returns the entropy in nats of the mean over points of their codes.

  A point has a distribution over all 2^b codes of a group of b bits, a product
  of those of its bits.  The mean distribution is the product of two matrices,
  `[2^(b/2), T]` and `[T, 2^(b/2)]`, so nothing is as large as T times 2^b.

  Args:
    logits: the log odds of bits, float32 `[T, D]`.
    is_real: which points count, bool `[T]`.
    bits_per_group: b.
    axis_name: the mapped axis over which the points are spread.  The mean of
      its devices' results is the entropy over all points, and the mean of their
      gradients is its gradient.
    at_once: how many probabilities are held at a time.

  Returns:
    float32 `[]`, the sum over groups.
  """
  entropy = jnp.zeros((), jnp.float32)
  for start in range(0, logits.shape[-1], bits_per_group):
    group = logits[:, start : start + bits_per_group]
    entropy += _group_entropy(group, is_real, axis_name, at_once)
  return entropy


def _group_entropy(
  logits: jax.Array,
  is_real: jax.Array,
  axis_name: str | None,
  at_once: int,
) -> jax.Array:
  half = logits.shape[-1] // 2

  @functools.partial(jax.checkpoint, prevent_cse=False)
  def add_up(chunk) -> jax.Array:
    logits, is_real = chunk
    lower, upper = (
      _probabilities(bits) for bits in (logits[:, :half], logits[:, half:])
    )
    return jnp.dot(
      masks.keep(upper, is_real).T, lower, precision=jax.lax.Precision.HIGHEST
    )

  num_real = masks.count(is_real)
  if axis_name is not None:
    num_real = jax.lax.pmean(num_real, axis_name)
  size = max(at_once >> (logits.shape[-1] - half), 1)
  total = sum_chunks(add_up, (logits, is_real), size)
  shares = total / jnp.where(num_real > 0, num_real, 1.0)
  mean = _over_devices(shares, axis_name)
  # The derivative of -p log p is -log p, and a constant that cancels, since
  # shares add up to 1.  So only one factor needs it, and devices' add up.
  tiny = jnp.finfo(jnp.float32).tiny
  return -jnp.sum(shares * jnp.log(jnp.maximum(mean, tiny)))


def _probabilities(logits: jax.Array) -> jax.Array:
  """Returns those of all 2^b codes `[T, 2^b]` of b bits, given their log odds.

  Of a code's bits the first counts by ones.
  """
  ones = jax.nn.sigmoid(logits)
  zeros = jax.nn.sigmoid(-logits)
  found = jnp.ones((logits.shape[0], 1), jnp.float32)
  for i in range(logits.shape[-1]):
    found = jnp.concatenate(
      [found * zeros[:, i : i + 1], found * ones[:, i : i + 1]], axis=-1
    )
  return found


def _over_devices(x: jax.Array, axis_name: str | None) -> jax.Array:
  """Returns the mean over devices, without a gradient."""
  x = jax.lax.stop_gradient(x)
  return x if axis_name is None else jax.lax.pmean(x, axis_name)
