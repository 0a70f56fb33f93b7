"""How many groups of a product quantizer a position keeps.

Shapes: G groups of width W, B examples.
"""

import abc
from collections.abc import Sequence
import dataclasses
import math
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from adq_jax import checks
from adq_jax import options
from adq_jax.codebook.statistics import code_counts
from adq_jax.quantizers import examples
from adq_jax.streams import Stream

STREAM = "kept"


class AbstractKept(options.Option, abc.ABC):
  """What a slot `kept` takes: a frozen dataclass.

  Attributes:
    is_variable: whether positions may keep fewer than all groups.
    rate_weight: what a bit costs in evaluation where a call does not say it.
  """

  is_variable: ClassVar[bool] = True
  rate_weight: float

  @abc.abstractmethod
  def sample(
    self, key: jax.Array, num_groups: int, shape: tuple[int, ...]
  ) -> jax.Array:
    """Returns how many groups positions of an example keep in training.

    Args:
      key: a PRNG key, of the example.
      num_groups: G.
      shape: of its positions.

    Returns:
      int32 of that shape, in [1, G].
    """


@dataclasses.dataclass(frozen=True)
class AllKept(AbstractKept):
  """All groups are sent, everywhere.

  Example:
    >>> from adq_jax import ProductQuantizer, VectorQuantizer
    >>> ProductQuantizer(2, VectorQuantizer(16, 3)).kept
    AllKept()
  """

  is_variable: ClassVar[bool] = False
  rate_weight: ClassVar[float] = 0.0

  def sample(
    self, key: jax.Array, num_groups: int, shape: tuple[int, ...]
  ) -> jax.Array:
    """Returns G."""
    del key
    return jnp.full(shape, num_groups, jnp.int32)


@dataclasses.dataclass(frozen=True)
class RandomKept(AbstractKept):
  """In training each position keeps as many of the first groups as is drawn.

  The number is uniform from 1 to G, so that each prefix becomes a good code of
  its length.  A random subset instead would give groups no order.

  Attributes:
    rate_weight: what a bit costs in evaluation where a call does not say it.
      With 0 a position keeps the groups without which its error is larger:
      nearly always all of them.

  Example:
    >>> from adq_jax import ProductQuantizer, RandomKept, VectorQuantizer
    >>> quantizer = ProductQuantizer(
    ...   2, VectorQuantizer(16, 3), kept=RandomKept()
    ... )
    >>> [stream.name for stream in quantizer.streams]
    ['kept', 'group_0', 'group_1']
  """

  rate_weight: float = 0.0

  def check(self) -> None:
    """Raises a ValueError, "FIELD is X; it must be Y", if one does not fit."""
    checks.check_at_least("rate_weight", self.rate_weight, 0)

  def sample(
    self, key: jax.Array, num_groups: int, shape: tuple[int, ...]
  ) -> jax.Array:
    """Returns numbers from 1 to G, uniformly."""
    return jax.random.randint(key, shape, 1, num_groups + 1, jnp.int32)


def make_stream(num_groups: int) -> Stream:
  """Returns the stream of the numbers kept, 1 to G, less one."""
  labels = tuple(str(n + 1) for n in range(num_groups))
  return Stream(STREAM, num_groups, coding="entropy", labels=labels)


def bits_of_group(streams: Sequence[Stream]) -> float:
  """Returns the bits of a group that is kept, of its streams."""
  return sum(math.log2(stream.alphabet) for stream in streams)


def as_given(
  kept: AbstractKept,
  num_kept: jax.Array | int,
  num_groups: int,
  shape: tuple[int, ...],
) -> jax.Array:
  """Returns how many groups positions keep where a call says it.

  Args:
    kept: the option.
    num_kept: an integer, or one for each position; taken as 1 or G where it is
      less or more.
    num_groups: G.
    shape: of the positions, `[...]`.

  Returns:
    int32 `[...]`, in [1, G].

  Raises:
    ValueError: if the number is not variable, or is no such integer.
  """
  if not kept.is_variable:
    raise ValueError(
      f"num_kept is given; it must be None where kept is {kept!r}"
    )
  num_kept = jnp.asarray(num_kept)
  checks.check_integer("num_kept", num_kept)
  if num_kept.ndim:
    checks.check_shape("num_kept", num_kept, shape, "one for each position")
  num_kept = jnp.clip(num_kept.astype(jnp.int32), 1, num_groups)
  return jnp.broadcast_to(num_kept, shape)


def draw(
  module: nn.Module,
  shape: tuple[int, ...],
  example_index: jax.Array | None,
) -> jax.Array:
  """Returns how many groups each position keeps, int32 `[...]`, in [1, G].

  Args:
    module: the quantizer, which has the option and the rng stream.
    shape: of the positions, `[...]`; B come first.
    example_index: what tells examples apart, int `[B]`; None for the places in
      the batch of all devices.

  Raises:
    ValueError: if the rng stream `"dropout"` is missing.
  """
  if not module.has_rng("dropout"):
    raise ValueError(
      f"kept is {module.kept!r}, which draws numbers of groups in training, but"
      ' the rng stream "dropout" is missing; apply with rngs={"dropout": key}'
    )
  count, *others = shape or (1,)
  index = examples.index_of(count, example_index, module.axis_name)
  keys = examples.keys_of(module.make_rng("dropout"), index)
  drawn = jax.vmap(
    lambda key: module.kept.sample(key, module.num_groups, tuple(others))
  )(keys)
  return drawn.reshape(shape)


def choose(
  points: jax.Array,
  quantized: jax.Array,
  dropped: jax.Array,
  rate_weight: jax.Array,
  bits: float,
) -> jax.Array:
  """Returns the numbers kept that cost least, the first of equal ones.

  The cost is the mean square of what is left, over all G W numbers, and what
  the bits of the groups cost.  The number itself has log2 G bits whatever it
  is, so these change nothing.

  Args:
    points: float32 `[..., G, W]`.
    quantized: float32 `[..., G, W]`, if they are kept.
    dropped: what they become else, float32 `[G, W]`.
    rate_weight: what a bit costs, float32 `[...]`.
    bits: of a group.

  Returns:
    int32 `[...]`, in [1, G].
  """
  dropped = jnp.broadcast_to(dropped, points.shape)
  gains = jnp.square(points - dropped).sum(axis=-1)
  gains -= jnp.square(points - quantized).sum(axis=-1)
  charge = jnp.zeros_like(rate_weight)
  if bits:  # a quotient, since something is added to it
    charge = rate_weight / (1 / (bits * dropped.shape[-2] * dropped.shape[-1]))
  gained = jnp.cumsum(gains - charge[..., None], axis=-1)
  return 1 + jnp.argmax(gained, axis=-1).astype(jnp.int32)


def is_prefix(num_kept: jax.Array, num_groups: int) -> jax.Array:
  """Returns which groups are kept, bool `[..., G]`, of int32 `[...]`."""
  shape = (*num_kept.shape, num_groups)
  places = jax.lax.broadcasted_iota(jnp.int32, shape, num_kept.ndim)
  return places < num_kept[..., None]


def metrics_of(
  num_kept: jax.Array,
  num_groups: int,
  bits: float,
  is_real: jax.Array,
  axis_name: str | None,
) -> dict[str, jax.Array]:
  """Returns the share of each number, float32 `[G]`, and the mean bits.

  Args:
    num_kept: int32 `[...]`.
    num_groups: G.
    bits: of a group.
    is_real: which points count, bool `[...]`.
    axis_name: the mapped axis over which the batch is spread.
  """
  counts = code_counts(
    num_kept - 1, num_groups, mask=is_real, axis_name=axis_name
  )
  selection = counts / jnp.maximum(counts.sum(), 1.0)
  numbers = jnp.arange(1, num_groups + 1, dtype=jnp.float32)
  return {"selection": selection, "rate": bits * (selection * numbers).sum()}
