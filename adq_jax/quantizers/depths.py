"""How many stages of a residual quantizer a point takes, where bits cost.

Shapes: T points, D their width, S stages.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from adq_jax.codebook.statistics import Batch
from adq_jax.codebook.statistics import code_counts
from adq_jax.codebook.statistics import Statistics
from adq_jax.quantizers import stages
from adq_jax.quantizers.beam import Beam
from adq_jax.streams import Stream

STREAM = "depth"


def make_stream(num_stages: int) -> Stream:
  """Returns the stream of depths, each from 0 to S."""
  labels = tuple(str(depth) for depth in range(num_stages + 1))
  return Stream(STREAM, len(labels), coding="entropy", labels=labels)


def of_codes(codes: jax.Array) -> jax.Array:
  """Returns the depths int32 `[...]` of codes `[..., S]`."""
  return stages.is_used(codes).sum(axis=-1, dtype=jnp.int32)


def choose(
  ends: Sequence[Beam], points: jax.Array, charges: jax.Array
) -> jax.Array:
  """Returns the codes of the depth that costs least, the first of equal ones.

  Args:
    ends: the hypotheses after 0 to S stages.
    points: float32 `[T, D]`.
    charges: what each depth costs itself, float32 `[T, S + 1]`, in the unit of
      squared distances.

  Returns:
    int32 `[T, S]`, `NOTHING` from the depth on.
  """
  costs = [
    jnp.square(points - end.sums[:, 0]).sum(axis=-1) + end.costs[:, 0]
    for end in ends
  ]
  depths = jnp.argmin(jnp.stack(costs, axis=-1) + charges, axis=-1)
  num_stages = len(ends) - 1
  codes = jnp.full((points.shape[0], num_stages), stages.NOTHING, jnp.int32)
  for depth, end in enumerate(ends):
    rest = ((0, 0), (0, num_stages - depth))
    own = jnp.pad(end.codes[:, 0], rest, constant_values=stages.NOTHING)
    codes = jnp.where((depths == depth)[:, None], own, codes)
  return codes


def statistics_of(batch: Batch, codes: jax.Array) -> Statistics:
  """Returns how often each depth is taken, over all devices.

  Args:
    batch: of the step.
    codes: of its points, int32 `[T, S]`.
  """
  counts = code_counts(
    of_codes(codes),
    codes.shape[-1] + 1,
    mask=batch.is_real,
    axis_name=batch.axis_name,
  )
  return Statistics(counts, None)


def metrics_of(statistics: Statistics) -> dict[str, jax.Array]:
  """Returns the share of points that choose each depth, float32 `[S + 1]`."""
  counts = statistics.counts
  return {"selection": counts / jnp.maximum(counts.sum(), 1.0)}
