"""How many stages of a residual quantizer a point takes, learned.

Shapes: C features of z, T points, D the width of codewords, S stages.
"""

from collections.abc import Sequence
import dataclasses
import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp

from adq_jax import masks
from adq_jax import options
from adq_jax.quantizers import attention
from adq_jax.quantizers import estimators
from adq_jax.quantizers.choice import AttentionChoice
from adq_jax.quantizers.choice import Selector


@dataclasses.dataclass(frozen=True)
class AllStages(options.Option):
  """Points take all stages, unless bits have a price.

  Example:
    >>> from adq_jax import AllStages, ResidualQuantizer
    >>> ResidualQuantizer(3, 16, 4).depth_choice
    AllStages()
  """


DepthChoice = AllStages | AttentionChoice


def check(
  choice: DepthChoice, width: int, others: dict[str, tuple[object, object]]
) -> None:
  """Raises a ValueError if what decides on depths does not fit.

  Args:
    choice: what the slot `depth_choice` has.
    width: C.
    others: fields that decide on depths or codes too, each with its value and
      the one that it must have beside a learned choice.
  """
  if not isinstance(choice, DepthChoice):
    raise ValueError(
      f"depth_choice is {choice!r:.200}; it must be AllStages() or an"
      " AttentionChoice; for a choice by distortion and bits set price"
    )
  with options.named("depth_choice"):
    choice.check()
    if isinstance(choice, AllStages):
      return
    choice.check_features(width)
  for name, (value, wanted) in others.items():
    if value != wanted:
      raise ValueError(
        f"{name} is {value!r}; it must be {wanted!r} where depth_choice is"
        f" {choice!r}, which decides how many stages are used"
      )


@dataclasses.dataclass(frozen=True)
class Scored:
  """What a learned choice says of a batch.

  Attributes:
    scores: of the depths from 1 to S, float32 `[..., S]`, without noise.
    weights: one-hot, with the gradient of the choice, float32 `[T, S]`.
    depths: that are chosen, int32 `[T]`, each from 1 to S.
  """

  scores: jax.Array
  weights: jax.Array
  depths: jax.Array

  def with_gradient(
    self, values: jax.Array, taken: Sequence[jax.Array]
  ) -> jax.Array:
    """Returns values to the bit, with a gradient to the weights too.

    Args:
      values: float32 `[T, D]`, of the chosen depths.
      taken: the codewords of all stages, float32 `[T, D]` each, whether a
        point uses them or not.
    """
    sums = itertools.accumulate(taken)
    weighed = sum(
      self.weights[:, s, None] * jax.lax.stop_gradient(total)
      for s, total in enumerate(sums)
    )
    return estimators.straight_through(values, weighed)


def score(
  module: nn.Module,
  choice: AttentionChoice,
  selector: Selector,
  z: jax.Array,
  is_real: jax.Array,
  *,
  is_update: bool = False,
  draw: bool | jax.Array | None = None,
  temperature: jax.Array | float = 1.0,
  example_index: jax.Array | None = None,
  axis_name: str | None = None,
) -> Scored:
  """Returns the depths of points by what is learned.

  Args:
    module: the quantizer, whose rng stream `"gumbel"` a sample takes.
    choice: its option.
    selector: as the option made it.
    z: floating `[..., C]`.
    is_real: which of them count, bool `[T]`.
    is_update: whether it is for a step of training.
    draw: whether the choice is sampled; None: in training.
    temperature: tau.
    example_index: int `[B]`.
    axis_name: the mapped axis of the step.
  """
  shape = z.shape[:-1]
  z = masks.keep(jnp.asarray(z).astype(jnp.float32), is_real.reshape(shape))
  scores = choice.scores(selector, z, (), ())
  noise = attention.noise_of_module(
    module, scores.shape, is_update, draw, example_index, axis_name
  )
  noisy = scores if noise is None else scores + noise
  weights, member = choice.choose(noisy, temperature)
  return Scored(
    scores, weights.reshape(-1, weights.shape[-1]), member.reshape(-1) + 1
  )
