"""The stages of a residual quantizer: what each sees, and what it adds.

Shapes: T points, D their width, S stages, B examples.
"""

from collections.abc import Sequence
import dataclasses
import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp

from adq_jax import checks
from adq_jax import masks
from adq_jax import metrics
from adq_jax.codebook.statistics import Batch
from adq_jax.codebook.statistics import Statistics
from adq_jax.quantizers import examples

MOST = 256  # each may be traced; SoundStream has up to 80
NOTHING = -1  # the code of a stage that adds nothing
COMMITTED = ("all", "last")  # the sums that the commitment is of


@dataclasses.dataclass(frozen=True)
class Stage:
  """One stage of a step.

  Attributes:
    batch: what is left of the points before it, and which of them use it.
    codes: of the points, int32 `[T]`.
    taken: the codewords of these, float32 `[T, D]`.
    error: the mean square, over width, of what is left after it, float32
      `[T]`; 0 where a point does not use it.
  """

  batch: Batch
  codes: jax.Array
  taken: jax.Array
  error: jax.Array


def check_codes(codes: jax.Array, num_stages: int) -> None:
  """Raises a ValueError unless codes are integers `[..., S]`."""
  checks.check_integer("codes", codes)
  checks.check_width("codes", codes, num_stages, "the quantizer's num_stages")


def number_decoded(given: int | None, num_stages: int) -> int:
  """Returns how many of the first of S stages to decode.

  Args:
    given: the argument `num_stages` of `decode`; None: all.
    num_stages: S.

  Raises:
    ValueError: if there are not so many.
  """
  if given is None:
    return num_stages
  why = "the stages that there are"
  checks.check_count("num_stages", given, maximum=num_stages, why=why)
  return given


def is_used(codes: jax.Array) -> jax.Array:
  """Returns where codes `[...]`, any integers, stand for a codeword, bool."""
  if not jnp.issubdtype(codes.dtype, jnp.signedinteger):
    return jnp.ones(codes.shape, bool)  # it has no NOTHING
  return jnp.asarray(codes != NOTHING)


def cut(codes: jax.Array, depths: jax.Array) -> jax.Array:
  """Returns codes int32 `[..., S]`, with `NOTHING` from some stage on.

  Args:
    codes: int32 `[..., S]`.
    depths: how many stages a point uses, int32 `[...]`.
  """
  stages = jax.lax.broadcasted_iota(jnp.int32, codes.shape, codes.ndim - 1)
  return jnp.where(stages < depths[..., None], codes, NOTHING)


def follow(
  batch: Batch, codes: jax.Array, taken: Sequence[jax.Array]
) -> list[Stage]:
  """Returns the stages that points go through.

  What is left of a point has the point's gradient, and none goes to codewords.

  Args:
    batch: the points before all stages.
    codes: int32 `[T, S]`, `NOTHING` where a point does not use a stage.
    taken: the codewords of each stage, float32 `[T, D]`, 0 for `NOTHING`.
  """
  stages = []
  left = batch.points
  for s, total in enumerate(itertools.accumulate(taken)):
    is_real = batch.is_real & is_used(codes[:, s])
    seen = dataclasses.replace(batch, points=left, is_real=is_real)
    left = batch.points - jax.lax.stop_gradient(total)
    error = jnp.square(masks.keep(left, is_real)).mean(axis=-1)
    stages.append(Stage(seen, codes[:, s], taken[s], error))
  return stages


def join(batches: Sequence[Batch]) -> Batch:
  """Returns what all stages see as one batch: that of a shared codebook."""
  return dataclasses.replace(
    batches[0],
    points=jnp.concatenate([batch.points for batch in batches]),
    is_real=jnp.concatenate([batch.is_real for batch in batches]),
  )


def commitment(
  stages: Sequence[Stage], batch: Batch, total: jax.Array, committed: str
) -> jax.Array:
  """Returns the commitment term, float32 `[]`.

  Args:
    stages: of the step.
    batch: the points before all of them.
    total: the sum of their codewords, float32 `[T, D]`.
    committed: `"all"`: the mean over stages of the errors after each, where a
      stage that a point does not use adds 0; or `"last"`: the error of the
      total.
  """
  if committed == "last":
    total = jax.lax.stop_gradient(total)
    return masks.mean_square(
      batch.points, total, batch.is_real, batch.axis_name
    )
  error = sum(stage.error for stage in stages) / len(stages)
  return masks.mean(error, batch.is_real, batch.axis_name)


def metrics_of(
  stages: Sequence[Stage], statistics: Sequence[Statistics]
) -> dict[str, jax.Array]:
  """Returns metrics of the points that use each stage, float32 `[S]` each.

  Under a mapped axis they are those of all devices.

  Args:
    stages: of the step.
    statistics: of each.
  """
  axis_name = stages[0].batch.axis_name
  errors = jnp.stack(
    [
      masks.mean(stage.error, stage.batch.is_real, axis_name)
      for stage in stages
    ]
  )
  errors = jax.lax.stop_gradient(errors)
  if axis_name is not None:
    errors = jax.lax.pmean(errors, axis_name)
  counts = [each.counts for each in statistics]
  return {
    "quantization_error": errors,
    "perplexity": jnp.stack([metrics.perplexity(x) for x in counts]),
    "usage": jnp.stack([metrics.usage(x) for x in counts]),
  }


def check_dropout(share: float) -> None:
  """Raises a ValueError unless a `stage_dropout` is a share of examples."""
  checks.check_at_least("stage_dropout", share, 0)
  if share > 1:
    raise ValueError(
      f"stage_dropout is {share}; it must be in [0, 1], a share of examples"
    )


def draw_depths(
  module: nn.Module,
  shape: tuple[int, ...],
  example_index: jax.Array | None,
  axis_name: str | None,
) -> jax.Array:
  """Returns how many stages points `[...]` use in training, int32 `[T]`.

  Args:
    module: the quantizer, with the fields `stage_dropout` and `num_stages`,
      whose rng stream `"dropout"` it takes.
    shape: of the points, `[...]`; B come first.
    example_index: what tells examples apart, int `[B]`; None for the places in
      the batch of all devices.
    axis_name: the mapped axis over which the batch is spread.

  Raises:
    ValueError: if the rng stream is missing.
  """
  if not module.has_rng("dropout"):
    raise ValueError(
      f"stage_dropout is {module.stage_dropout}, which samples numbers of"
      ' stages in training, but the rng stream "dropout" is missing; apply'
      ' with rngs={"dropout": key}'
    )
  count, *others = shape or (1,)
  depths = sample_depths(
    module.make_rng("dropout"),
    module.stage_dropout,
    module.num_stages,
    examples.index_of(count, example_index, axis_name),
  )
  depths = depths.reshape(count, *(1,) * len(others))
  return jnp.broadcast_to(depths, (count, *others)).reshape(-1)


def sample_depths(
  key: jax.Array, share: float, num_stages: int, example_index: jax.Array
) -> jax.Array:
  """Returns how many stages each example uses, int32 `[B]`, in [1, S].

  Args:
    key: a PRNG key, the same for all examples.
    share: the probability that the number is sampled, uniformly; it is S else.
    num_stages: S.
    example_index: what tells examples apart, int `[B]`.
  """

  def sample(key: jax.Array) -> jax.Array:
    choice_key, depth_key = jax.random.split(key)
    depth = jax.random.randint(depth_key, (), 1, num_stages + 1, jnp.int32)
    is_sampled = jax.random.uniform(choice_key, (), jnp.float32) < share
    return jnp.where(is_sampled, depth, num_stages)

  return jax.vmap(sample)(examples.keys_of(key, example_index))
