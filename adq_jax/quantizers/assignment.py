"""Which codewords training assigns to a point.

Shapes: T points, N codewords, D their width, m samples of each point.
"""

import abc
import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from adq_jax import checks
from adq_jax import collectives
from adq_jax import options
from adq_jax.chunks import map_chunks
from adq_jax.codebook.statistics import Batch
from adq_jax.codebook.statistics import Statistics
from adq_jax.codebook.statistics import statistics_of
from adq_jax.options import check_option
from adq_jax.quantizers import estimators
from adq_jax.quantizers import price as prices
from adq_jax.search.nearest import nearest_codes

_BLOCK = 256  # codewords that are compared together; samples depend on it
_AT_ONCE = 2**22  # numbers of points, samples and a block that are held


class AbstractAssignment(options.Option, abc.ABC):
  """What a slot `assignment` takes: a frozen dataclass.

  Attributes:
    is_sampled: whether training samples codes.  Else `samples` is not called,
      and the search finds the codes.
  """

  is_sampled: ClassVar[bool] = True

  @abc.abstractmethod
  def samples(
    self, keys: jax.Array, points: jax.Array, codewords: jax.Array
  ) -> jax.Array:
    """Returns m codes of each point, int32 `[m, T]`, in [0, N).

    Args:
      keys: a PRNG key for each point, `[T]`.
      points: float32 `[T, D]`, finite, as they are compared.
      codewords: float32 `[N, D]`.
    """


@dataclasses.dataclass(frozen=True)
class Nearest(AbstractAssignment):
  """The nearest codeword, in training as in evaluation.

  Example:
    >>> from adq_jax import Nearest, VectorQuantizer
    >>> VectorQuantizer(512, 64).assignment
    Nearest()
  """

  is_sampled: ClassVar[bool] = False

  def samples(
    self, keys: jax.Array, points: jax.Array, codewords: jax.Array
  ) -> jax.Array:
    """Returns the code of the nearest codeword, m = 1."""
    del keys
    return nearest_codes(points, codewords)[None]


@dataclasses.dataclass(frozen=True)
class SampledCodes(AbstractAssignment):
  """Codes that training samples: soft EM, or one stochastic code.

  As in Roy et al., 2018, "Theory and Experiments on Vector Quantized
  Autoencoders", arXiv 1805.11063.  A point p takes m codes, each sampled from
  softmax_j(-|p - c_j|^2 / temperature).  Its value is the mean of their
  codewords, its code the most frequent one of them, the lowest of several.  The
  codewords learn from the m codes, each with weight 1 / m.  So codewords near a
  point learn from it too, and fewer are left unused.

  With `num_samples=1` a value is the codeword of one sampled code, as with
  `stochastic_sample_codes` of vector-quantize-pytorch; there the distance is
  not squared.

  Evaluation and `encode` take the nearest codeword, and so does training with
  `draw=False`.  No code decodes to a mean of several codewords: the decoder
  sees other values in training than in evaluation, so watch both errors.

  The temperature is in units of squared distance, which grow with D and with
  the scale of the points.  Far below the distances between codewords, the
  sample is the nearest one.

  Time is that of a search, and of m N comparisons for each point.  There is no
  array of points times codewords.

  Attributes:
    num_samples: m, 1 or more; 10 in the authors' code.  The program has a sum
      of points for each.
    temperature: above 0; 1 in the authors' code.

  Example:
    >>> import jax
    >>> from adq_jax import SampledCodes, VectorQuantizer
    >>> quantizer = VectorQuantizer(
    ...   16, 4, assignment=SampledCodes(num_samples=10, temperature=0.5)
    ... )
    >>> z = jax.random.normal(jax.random.key(0), (2, 5, 4))
    >>> variables = quantizer.init(jax.random.key(1), z)
    >>> result, state = quantizer.apply(
    ...   variables,
    ...   z,
    ...   train=True,
    ...   mutable=["codebook"],
    ...   rngs={"gumbel": jax.random.key(2)},
    ... )
    >>> result.values.shape, result.codes.shape
    ((2, 5, 4), (2, 5))
  """

  num_samples: int = 10
  temperature: float = 1.0

  def check(self) -> None:
    """Raises a ValueError, "FIELD is X; it must be Y", if one does not fit."""
    checks.check_count("num_samples", self.num_samples)
    checks.check_at_least("temperature", self.temperature, 0)
    if not self.temperature:
      raise ValueError(
        f"temperature is {self.temperature}; it must be above 0, or assignment"
        " be Nearest()"
      )

  def samples(
    self, keys: jax.Array, points: jax.Array, codewords: jax.Array
  ) -> jax.Array:
    """Returns m codes of each point, sampled by their distances."""
    return sample_codes(
      keys, points, codewords, self.num_samples, self.temperature
    )


def sample_codes(
  keys: jax.Array,
  points: jax.Array,
  codewords: jax.Array,
  num_samples: int,
  temperature: float,
) -> jax.Array:
  """Samples codes from softmax(-|p - c|^2 / temperature), int32 `[m, T]`.

  Blocks of codewords are seen one after the other.  A sample of those before is
  replaced by one of a block with the block's share of all weights so far.  So
  one pass samples from all, with two random numbers for each block.

  Args:
    keys: a PRNG key for each point, `[T]`: its samples depend on it alone.
    points: float32 `[T, D]`, finite.
    codewords: float32 `[N, D]`.
    num_samples: m.
    temperature: above 0.
  """
  size, dim = codewords.shape
  block = min(size, _BLOCK)
  num_blocks = -(-size // block)
  filler = num_blocks * block - size
  blocks = jnp.pad(codewords, ((0, filler), (0, 0)))
  squares = jnp.square(codewords).sum(axis=1)
  squares = jnp.pad(squares, (0, filler), constant_values=jnp.inf)
  each = (
    jnp.arange(num_blocks, dtype=jnp.int32),
    blocks.reshape(num_blocks, block, dim),
    squares.reshape(num_blocks, 1, block),
  )

  def sample(arrays: tuple[jax.Array, jax.Array]) -> jax.Array:
    keys, points = arrays

    def step(state, of_block):
      total, codes = state
      i, own, own_squares = of_block
      products = jnp.matmul(points, own.T, precision=jax.lax.Precision.HIGHEST)
      # Without |p|^2, which no softmax sees, and which rounds the rest away.
      # To double is exact: so wherever this is computed, it has the same bits,
      # and the largest has the weight 1.
      nearness = 2 * products - own_squares
      top = nearness.max(axis=1, keepdims=True)
      sums = jnp.cumsum(jnp.exp((nearness - top) / temperature), axis=1)
      weight = top / temperature + jnp.log(sums[:, -1:])
      of_sample, within = _uniform(keys, i, num_samples)
      is_before = sums[:, None] <= within[..., None] * sums[:, None, -1:]
      found = i * block + is_before.sum(axis=2, dtype=jnp.int32)
      # The block's share of all weights so far; 1 for the first.
      is_moved = of_sample < jax.nn.sigmoid(weight - total)
      codes = jnp.where(is_moved, found, codes)
      return (jnp.logaddexp(total, weight), codes), None

    start = (
      jnp.full((len(points), 1), -jnp.inf, jnp.float32),
      jnp.zeros((len(points), num_samples), jnp.int32),
    )
    start = collectives.vary_as(start, points, codewords)
    (_, codes), _ = jax.lax.scan(step, start, each)
    # The sums of a block are rounded, so that a filler may seem to add to them.
    return jnp.minimum(codes, size - 1)

  at_once = max(1, _AT_ONCE // (num_samples * block))
  return map_chunks(sample, (keys, points), at_once).T


def _uniform(
  keys: jax.Array, index: jax.Array, count: int
) -> tuple[jax.Array, jax.Array]:
  """Returns two numbers in [0, 1) for each sample, both `[T, m]`."""
  numbers = jax.vmap(
    lambda key: jax.random.uniform(
      jax.random.fold_in(key, index), (2, count), jnp.float32
    )
  )(keys)
  return numbers[:, 0], numbers[:, 1]


def most_frequent(samples: jax.Array) -> jax.Array:
  """Returns the code that most samples of a point have, int32 `[T]`.

  The lowest of several.

  Args:
    samples: int32 `[m, T]`.
  """
  counts = (samples[:, None] == samples[None]).sum(axis=1, dtype=jnp.int32)
  is_most = counts == counts.max(axis=0, keepdims=True)
  largest = jnp.iinfo(samples.dtype).max
  return jnp.where(is_most, samples, largest).min(axis=0)


def mixture(samples: jax.Array, codewords: jax.Array) -> jax.Array:
  """Returns the mean of the codewords of a point's samples, `[T, D]`.

  Where all samples are one code, it is that codeword to the bit.

  Args:
    samples: int32 `[m, T]`, in [0, N).
    codewords: float32 `[N, D]`, which have a gradient.
  """
  first, *others = (jnp.take(codewords, codes, axis=0) for codes in samples)
  if not others:
    return first
  return first + sum(other - first for other in others) / len(samples)


def statistics_of_samples(
  batch: Batch, samples: jax.Array, size: int, *, has_sums: bool
) -> Statistics:
  """Returns what a codebook learns from m codes a point, of weight 1 / m.

  Args:
    batch: of the step; not of a codebook in shards.
    samples: of its points, int32 `[m, T]`.
    size: N.
    has_sums: whether there are `sums`.
  """
  own = dataclasses.replace(batch, axis_name=None)
  of_each = [
    statistics_of(own, codes, size, has_sums=has_sums) for codes in samples
  ]
  mean = jax.tree.map(lambda *of_each: sum(of_each) / len(of_each), *of_each)
  if batch.axis_name is None:
    return mean
  return jax.lax.psum(mean, batch.axis_name)


def check_field(
  assignment: AbstractAssignment,
  *,
  estimator: estimators.AbstractEstimator,
  price: prices.AbstractPrice,
  shard_codebook: bool,
) -> None:
  """Raises a ValueError unless an assignment fits, and goes with the rest.

  Args:
    assignment: the field of a quantizer, as are the others.
    estimator: what gives values a gradient.
    price: what bits cost.
    shard_codebook: whether devices have parts of the codewords.
  """
  check_option("assignment", assignment, AbstractAssignment, "Nearest()")
  if not assignment.is_sampled:
    return
  if not estimator.takes_samples:
    raise ValueError(
      f"estimator is {estimator!r}; it must be StraightThrough() or another"
      f" that takes samples where assignment is {assignment!r}: training is"
      " reported to diverge"
    )
  if price.is_charged:
    raise ValueError(
      f"price is {price!r}; it must be NoPrice() where assignment is"
      f" {assignment!r}, which samples by distance alone"
    )
  if shard_codebook:
    raise ValueError(
      "shard_codebook is True; it must be False where assignment is"
      f" {assignment!r}, which needs all codewords to sample from"
    )
