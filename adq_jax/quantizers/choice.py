"""Which codebook of the pool a point uses (section 3.2, alg. 1 line 7).

Shapes: C features of z, m codebooks.  Every choice is made for a unit: a point,
or another vector of C numbers (see `adq_jax.quantizers.units`).
"""

import abc
from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp

from adq_jax import checks
from adq_jax import masks
from adq_jax import options
from adq_jax.quantizers import attention
from adq_jax.quantizers import estimators

_LOGITS = ("log_weights", "weights")

Selector = Callable[[jax.Array], jax.Array]


@dataclasses.dataclass(frozen=True)
class Chosen:
  """What a choice made of a batch, for its loss.

  Attributes:
    z: float32 `[..., C]`, zeros where it does not count.
    of_each: the values of each codebook, float32 `[..., C]`.
    values: the chosen ones, float32 `[..., C]`.
    is_real: which points count, bool `[...]`.
    axis_name: the mapped axis over which the batch is spread.
    commitment_cost: alpha of eq. 3.
  """

  z: jax.Array
  of_each: Sequence[jax.Array]
  values: jax.Array
  is_real: jax.Array
  axis_name: str | None
  commitment_cost: float


class AbstractChoice(options.Option, abc.ABC):
  """What a slot `choice` takes: a frozen dataclass.

  Attributes:
    draws: whether the choice can be sampled.
    needs_values: whether it looks at the values of all codebooks.
    has_price: whether it depends on what a bit costs.
  """

  draws: ClassVar[bool]
  needs_values: ClassVar[bool]
  has_price: ClassVar[bool] = False

  def check_features(self, features: int) -> None:
    """Raises a ValueError if a field does not fit to C features."""
    del features

  def make_selector(self, num_codebooks: int) -> Selector | None:
    """Returns the module that learns to choose, if there is one."""
    del num_codebooks
    return None

  def to_codebooks(self, x: jax.Array) -> jax.Array:
    """Returns z, with the gradient that codebooks have to it."""
    return x

  @abc.abstractmethod
  def scores(
    self,
    selector: Selector | None,
    z: jax.Array,
    of_each: Sequence[jax.Array],
    sizes: Sequence[int],
    rate_weight: jax.Array | None = None,
  ) -> jax.Array:
    """Returns how well each codebook suits a unit, float32 `[..., m]`.

    Args:
      selector: as `make_selector` made it.
      z: units, float32 `[..., C]`.
      of_each: the units of each codebook's values, float32 `[..., C]`; `()`
        unless `needs_values`.
      sizes: N of each codebook.
      rate_weight: what a bit costs each unit, float32 `[...]`; None: what a
        field says.
    """

  @abc.abstractmethod
  def choose(
    self, scores: jax.Array, temperature: jax.Array | float
  ) -> tuple[jax.Array, jax.Array]:
    """Returns the choice of the largest score.

    Args:
      scores: float32 `[..., m]`, with noise where the choice is sampled.
      temperature: tau, above 0, a scalar.

    Returns:
      weights, float32 `[..., m]`: one-hot, with the gradient of the choice; and
      the choice, int32 `[...]`.
    """

  def add_loss_of_scores(
    self,
    loss: jax.Array,
    scores: jax.Array,
    is_real: jax.Array,
    axis_name: str | None,
  ) -> jax.Array:
    """Returns a loss with what the scores add to it.

    Args:
      loss: float32 `[]`, the mean over codebooks.
      scores: float32 `[..., m]`, before anything is sampled.
      is_real: which points count, bool `[...]`.
      axis_name: the mapped axis over which the batch is spread.
    """
    del scores, is_real, axis_name
    return loss

  def add_loss_of_values(self, loss: jax.Array, chosen: Chosen) -> jax.Array:
    """Returns a loss with what the chosen values add to it."""
    del chosen
    return loss

  def from_codebooks(self, values: jax.Array, z: jax.Array) -> jax.Array:
    """Returns the chosen values, with the gradient that they have to z."""
    del z
    return values


@dataclasses.dataclass(frozen=True)
class AttentionChoice(AbstractChoice):
  """Learns to choose, by attention of points to a key for each codebook.

  As in section 3.2: a hard Gumbel-Softmax, which is sampled in training.

  Attributes:
    num_heads: heads of the attention, a divisor of C.
    entropy_weight: what each bit of `attention.choice_entropy` takes off the
      loss, so that the attention does not settle on one codebook.
    logits: what Gumbel noise is added to: `"log_weights"` of the attention, as
      in the paper; or `"weights"`, as the authors' code does.
    input_init: how the projections of queries and keys start:
      `"lecun_normal"`; or `"pytorch"`, as in its MultiheadAttention.

  Example:
    >>> from adq_jax import AdaptiveQuantizer, AttentionChoice
    >>> choice = AttentionChoice(num_heads=4, entropy_weight=1e-3)
    >>> pool = ((16, 4), (64, 2))
    >>> AdaptiveQuantizer(pool, features=8, choice=choice).draws
    True
  """

  num_heads: int = 2
  entropy_weight: float = 0.0
  logits: str = "log_weights"
  input_init: str = "lecun_normal"

  draws: ClassVar[bool] = True
  needs_values: ClassVar[bool] = False

  def check(self) -> None:
    """Raises a ValueError, "FIELD is X; it must be Y", if one does not fit."""
    checks.check_count("num_heads", self.num_heads)
    checks.check_at_least("entropy_weight", self.entropy_weight, 0)
    checks.check_choice("logits", self.logits, _LOGITS)
    attention.check_input_init("input_init", self.input_init)

  def check_features(self, features: int) -> None:
    """Raises a ValueError unless each head gets as many features."""
    attention.check_heads(self.num_heads, features)

  def make_selector(self, num_codebooks: int) -> Selector:
    """Returns the attention."""
    return attention.AttentionSelector(
      num_codebooks, self.num_heads, self.input_init
    )

  def scores(
    self,
    selector: Selector | None,
    z: jax.Array,
    of_each: Sequence[jax.Array],
    sizes: Sequence[int],
    rate_weight: jax.Array | None = None,
  ) -> jax.Array:
    """Returns log pi, or pi where `logits` are `"weights"`."""
    del of_each, sizes, rate_weight
    log_weights = selector(z)
    return jnp.exp(log_weights) if self.logits == "weights" else log_weights

  def choose(
    self, scores: jax.Array, temperature: jax.Array | float
  ) -> tuple[jax.Array, jax.Array]:
    """Returns the choice; see `attention.straight_through_choice`."""
    return attention.straight_through_choice(scores, temperature)

  def add_loss_of_scores(
    self,
    loss: jax.Array,
    scores: jax.Array,
    is_real: jax.Array,
    axis_name: str | None,
  ) -> jax.Array:
    """Returns the loss less what the entropy of the choice takes off it."""
    if not self.entropy_weight:
      return loss
    entropy = attention.choice_entropy(scores, is_real, axis_name)
    return loss - self.entropy_weight * entropy


@dataclasses.dataclass(frozen=True)
class DistortionChoice(AbstractChoice):
  """Chooses the codebook whose values are nearest to z, for their bits.

  That is the least |z - values|^2 / C + rate_weight * log2 N.  Nothing is
  learned or sampled for it, unlike in the paper.  The pool is one quantizer of
  z: its codebooks are trained as autoencoders of z, and the straight-through
  estimator goes around all of it.

  Attributes:
    rate_weight: what a bit costs where a call does not say it.

  Example:
    >>> import jax
    >>> from adq_jax import AdaptiveQuantizer, DistortionChoice
    >>> choice = DistortionChoice(rate_weight=1e3)  # only cheap codes
    >>> pool = ((16, 4), (64, 2))
    >>> quantizer = AdaptiveQuantizer(pool, features=8, choice=choice)
    >>> z = jax.random.normal(jax.random.key(0), (4, 8))
    >>> variables = quantizer.init(jax.random.key(1), z)
    >>> print(quantizer.apply(variables, z).codes.book)
    [0 0 0 0]
  """

  rate_weight: float = 0.0

  draws: ClassVar[bool] = False
  needs_values: ClassVar[bool] = True
  has_price: ClassVar[bool] = True

  def check(self) -> None:
    """Raises a ValueError, "FIELD is X; it must be Y", if one does not fit."""
    checks.check_at_least("rate_weight", self.rate_weight, 0)

  def to_codebooks(self, x: jax.Array) -> jax.Array:
    """Returns z without a gradient.

    Through the straight-through estimator, the codebooks' reconstruction loss
    would push z away from its codewords, and z would grow without bound.
    """
    return jax.lax.stop_gradient(x)

  def scores(
    self,
    selector: Selector | None,
    z: jax.Array,
    of_each: Sequence[jax.Array],
    sizes: Sequence[int],
    rate_weight: jax.Array | None = None,
  ) -> jax.Array:
    """Returns the costs of each codebook, below 0."""
    del selector
    if rate_weight is None:
      rate_weight = self.rate_weight
    costs = [
      jnp.square(z - own).mean(axis=-1) + rate_weight * math.log2(size)
      for own, size in zip(of_each, sizes, strict=True)
    ]
    return -jax.lax.stop_gradient(jnp.stack(costs, axis=-1))

  def choose(
    self, scores: jax.Array, temperature: jax.Array | float
  ) -> tuple[jax.Array, jax.Array]:
    """Returns the choice of the least cost, which has no gradient."""
    del temperature
    book = jnp.argmax(scores, axis=-1).astype(jnp.int32)
    return jax.nn.one_hot(book, scores.shape[-1], dtype=jnp.float32), book

  def add_loss_of_values(self, loss: jax.Array, chosen: Chosen) -> jax.Array:
    """Returns the loss with two more terms.

    The mean of |z - values|^2 / C of the chosen values, times commitment_cost,
    trains the encoder.  The mean over all codebooks trains their projections.
    """
    where = chosen.is_real, chosen.axis_name
    values = jax.lax.stop_gradient(chosen.values)
    loss += chosen.commitment_cost * masks.mean_square(chosen.z, values, *where)
    z = jax.lax.stop_gradient(chosen.z)
    errors = [masks.mean_square(z, own, *where) for own in chosen.of_each]
    return loss + sum(errors) / len(errors)

  def from_codebooks(self, values: jax.Array, z: jax.Array) -> jax.Array:
    """Returns the chosen values, with their own gradient also to z."""
    return estimators.straight_through(values, z)
