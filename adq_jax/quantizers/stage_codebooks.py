"""The codebooks of a residual quantizer: its search, and how they learn.

Shapes: T points, D their width, S stages.
"""

from collections.abc import Sequence
import dataclasses

import jax
import jax.numpy as jnp

from adq_jax import masks
from adq_jax.codebook import lookup
from adq_jax.codebook.statistics import Batch
from adq_jax.codebook.statistics import Statistics
from adq_jax.quantizers import beam as beams
from adq_jax.quantizers import depths
from adq_jax.quantizers import price as prices
from adq_jax.quantizers import stages as of_stages
from adq_jax.quantizers import tariff as tariffs
from adq_jax.quantizers.stages import Stage
from adq_jax.quantizers.vector import VectorQuantizer


@dataclasses.dataclass(frozen=True)
class StageCodebooks:
  """The codebooks of all stages.

  Attributes:
    codebooks: applied modules, one for each stage, or one for all.
    names: of the stages' streams, S of them.
  """

  codebooks: Sequence[VectorQuantizer]
  names: Sequence[str]

  @property
  def are_shared(self) -> bool:
    """Whether all stages use one codebook."""
    return len(self.codebooks) < len(self.names)

  def of(self, stage: int) -> VectorQuantizer:
    """Returns the codebook of a stage."""
    return self.codebooks[0 if self.are_shared else stage]

  def bits(self, price: prices.AbstractPrice) -> dict[str, jax.Array]:
    """Returns the bits of each stage's codewords `[N]`, by its name."""
    bits = [
      price.bits(codebook.state.values()["cluster_size"])
      for codebook in self.codebooks
    ]
    return {
      name: bits[0 if self.are_shared else s]
      for s, name in enumerate(self.names)
    }

  def search(
    self,
    batch: Batch,
    beam_size: int,
    tariff: tariffs.Tariff | None = None,
    *,
    is_update: bool = False,
  ) -> jax.Array:
    """Returns the codes of points, int32 `[T, S]`; 0 where one is not real.

    With a tariff they are `NOTHING` from the depth of a point on.

    Args:
      batch: of the step.
      beam_size: how many sums are looked at for each point.
      tariff: what codes cost, if they do.
      is_update: whether codewords may be placed, each stage's before it is
        searched.
    """
    beam = beams.start(batch.points)
    ends = [beam]
    width = batch.points.shape[1]
    for s, name in enumerate(self.names):
      codebook = self.of(s)
      if is_update and (s == 0 or not self.are_shared):
        codebook.state.check_can_change()
        left = batch.points - beam.sums[:, 0]
        codebook.state.place_before_search(
          dataclasses.replace(batch, points=left)
        )
      costs = tariffs.search_arguments(tariff, name, width)
      codewords = codebook.all_codewords()
      beam = beams.extend(
        beam, batch.points, batch.is_real, codewords, beam_size, **costs
      )
      ends.append(beam)
    codes = beam.codes[:, 0]
    if tariff is not None:
      charges = tariff.charges(depths.STREAM, width)
      codes = depths.choose(ends, batch.points, charges)
    return jnp.where(batch.is_real[:, None], codes, 0)

  def take(self, codes: jax.Array, num_stages: int) -> list[jax.Array]:
    """Returns the codewords of the first stages, float32 `[T, D]` each.

    Args:
      codes: any integers `[T, S]`; `NOTHING` takes zeros.
      num_stages: how many stages.
    """
    is_used = of_stages.is_used(codes)
    taken = []
    for s in range(num_stages):
      codewords = self.of(s).all_codewords()
      own = lookup.take(codes[:, s], codewords, len(codewords), None)
      taken.append(masks.keep(own, is_used[:, s]))
    return taken

  def learn(
    self, stages: Sequence[Stage], statistics: Sequence[Statistics]
  ) -> tuple[Statistics, ...]:
    """Updates each codebook once, and returns what with.

    Args:
      stages: of the step.
      statistics: of each.
    """
    batches = [stage.batch for stage in stages]
    if self.are_shared:
      batches = [of_stages.join(batches)]
      statistics = [jax.tree.map(lambda *x: sum(x), *statistics)]
    for codebook, batch, own in zip(
      self.codebooks, batches, statistics, strict=True
    ):
      codebook.state.move(own)
      codebook.state.place_after_update(batch)
    return tuple(statistics)
