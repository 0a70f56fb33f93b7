"""Vector quantization with one codebook (van den Oord et al., 2017).

Shapes: C features of z, N codewords, D their width, T points.
"""

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
import functools
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from adq_jax import checks
from adq_jax import collectives
from adq_jax import masks
from adq_jax import metrics
from adq_jax.codebook import placement
from adq_jax.codebook import shards
from adq_jax.codebook import state as codebooks
from adq_jax.codebook import updates
from adq_jax.codebook.statistics import code_counts
from adq_jax.codebook.statistics import code_sums
from adq_jax.codebook.statistics import Statistics
from adq_jax.codebook.statistics import to_indices
from adq_jax.quantizers import base
from adq_jax.quantizers import estimators
from adq_jax.quantizers import projections
from adq_jax.search import sharded
from adq_jax.search.nearest import nearest_codes
from adq_jax.streams import Stream

COLLECTION = "codebook"
UPDATES = ("ema", "smoothed_ema", "gradient")


class VectorQuantizer(base.Quantizer):
  """Replaces every vector of z by the nearest of N codewords.

  The state is in the collection `"codebook"`: `embedding`, `cluster_size`,
  `embedding_sum` and `initialized`, as in `adq_jax.Codebook`.  Training
  changes it, so apply with `mutable=["codebook"]`.  Under `pmap`, statistics
  and drawn codewords come from the batches of all devices.  Differentiate with
  respect to `variables["params"]` alone: `initialized` is bool, which
  `jax.grad` refuses.  The averages stay float32: of variables that are cast to
  another dtype, training refuses the collection, and all else computes in
  float32.

  A codebook that comes from elsewhere becomes the collection by
  `adq_jax.codebook_from`; `adq_jax.freeze_codewords` keeps some codewords as
  they are; `update_codebook` makes one update of several batches, or one when
  it is asked for.

  Attributes:
    codebook_size: N.
    embedding_dim: D.
    features: C, with 1x1 projections C -> D and D -> C around the codebook,
      which start as parts of the identity; None where z has width D itself.
    commitment_cost: alpha of eq. 3.
    decay: gamma, of the moving averages.
    update: `"ema"`, moving averages of the encodings; `"smoothed_ema"`, those
      with Laplace-smoothed counts that the authors' code has; or `"gradient"`,
      where `embedding` is a parameter and the codebook term of eq. 3 trains
      it, and the collection holds `cluster_size` alone.
    codebook_init: `"normal"`, as in the paper; or `"data"`: at the first
      training step codewords become encodings of its batch, which needs
      `"ema"`.  (Not `init`, which is a method of every Flax module.)
    revive_below: a codeword chosen less often than this share of the mean is
      placed upon an encoding again (see `revive_dead_codes`).  0: never.
      Above 0 needs `"ema"`.
    output_kernel: side of the projection D -> C: 1, or an odd number for a
      convolution over z `[..., H, W, C]`.
    axis_name: the mapped axis over which a training batch is spread.
    shard_codebook: whether each device of `axis_name` holds an equal part of
      the codewords instead of all, so that N may be as large as all of them
      have memory for; not with `"gradient"`.  The codes are those of the whole
      codebook.  So is the state after training: what one device makes of the
      whole batch, on CPU devices, a power of two of them up to 1,024, to the
      bit.  (An unsharded quantizer on several devices adds up sums of each, and
      rounds accordingly; accelerators add in orders of their own.)  `init`
      needs no axis and makes the whole codebook, of which
      `adq_jax.split_codebook` makes shards; jitted together, with
      `out_shardings` over the devices, no device makes more than its own.
      Everything else, evaluation too, has to be under the axis.
  """

  codebook_size: int
  embedding_dim: int
  features: int | None = None
  commitment_cost: float = 0.25
  decay: float = 0.99
  update: str = "ema"
  codebook_init: str = "normal"
  revive_below: float = 0.0
  output_kernel: int = 1
  axis_name: str | None = None
  shard_codebook: bool = False

  # A shard decodes as the whole codebook does.
  decoding_fields: ClassVar[tuple[str, ...]] = (
    "codebook_size",
    "embedding_dim",
    "features",
    "output_kernel",
  )

  @property
  def streams(self) -> tuple[Stream, ...]:
    """The codes."""
    return (Stream("index", self.codebook_size, width=self.embedding_dim),)

  @property
  def sharded_size(self) -> int:
    """N, where `shard_codebook`; else 0."""
    return self.codebook_size if self.shard_codebook else 0

  @property
  def spatial_axes(self) -> int:
    """2 with an `output_kernel` above 1, which looks at neighbours; else 0."""
    return 0 if self.output_kernel == 1 else 2

  @nn.nowrap
  def to_streams(self, codes: jax.Array) -> tuple[jax.Array, ...]:
    """Returns the codes, int32."""
    checks.check_integer("codes", codes)
    return (jnp.asarray(codes, jnp.int32),)

  @nn.nowrap
  def from_streams(self, values: Sequence[jax.Array]) -> jax.Array:
    """Returns the codes."""
    (codes,) = values
    return codes

  def setup(self):
    self.check()
    if self.features is not None:
      self.project_in = projections.make(self.embedding_dim)
      self.project_out = projections.make(self.features, self.output_kernel)
    names = [field.name for field in dataclasses.fields(codebooks.Codebook)]
    if self.update == "gradient":
      names = ["cluster_size"]
      self.embedding = self.param(
        "embedding",
        nn.initializers.normal(1.0),
        (self.codebook_size, self.embedding_dim),
        jnp.float32,
      )

    @functools.cache
    def initial() -> codebooks.Codebook:
      key = self.make_rng(COLLECTION)
      if self.update == "smoothed_ema":
        return updates.init_smoothed_codebook(
          key, self.codebook_size, self.embedding_dim
        )
      return codebooks.init_codebook(
        key,
        self.codebook_size,
        self.embedding_dim,
        initialized=self.codebook_init == "normal",
      )

    self.state = {
      name: self.variable(
        COLLECTION, name, lambda n: getattr(initial(), n), name
      )
      for name in names
    }
    if self._shard_axis is not None:
      shard = self.state["embedding"].value
      shards.check_shard(shard, self.codebook_size, self._shard_axis)
    codebooks.check_state(
      {name: variable.value for name, variable in self.state.items()},
      self.codebook_size,
      self.embedding_dim,
      is_shard=self._shard_axis is not None,
    )

  def __call__(
    self,
    z: jax.Array,
    *,
    train: bool = False,
    mask: jax.Array | None = None,
    temperature: jax.Array | float = 1.0,
    draw: bool | jax.Array | None = None,
    example_index: jax.Array | None = None,
  ) -> base.Quantized:
    """Quantizes z with the codewords as they are, then updates these.

    Args:
      z: floating `[..., C]`, or `[..., D]` without projections.
      train: whether to update the collection `"codebook"`.  The rng stream
        `"codebook"`, the same on all devices, is needed for
        `codebook_init="data"` and for `revive_below` above 0.
      mask: 1 for a real point and 0 for padding, `[...]`, of any dtype.
        Padding may hold anything: its code is 0, it counts in no statistic,
        loss or metric, and no gradient comes from it or goes to it.  So it is
        with a point that is not finite, whatever the mask.
      temperature: ignored, as are `draw` and `example_index`: nothing is drawn.
      draw: ignored.
      example_index: ignored.

    Returns:
      Quantized, with int32 `codes` `[...]`.  Its `loss` and
      `metrics["quantization_error"]` are means over points and width;
      `metrics` also has the batch's `perplexity` (1 to N), `usage`, the
      share of codewords chosen, and `nonfinite_points`.  In training under
      `axis_name`, metrics are of the batch of all devices, and the mean of
      `loss` over devices is its loss; in evaluation no device looks at
      another, except that those of a sharded codebook count `perplexity` and
      `usage` together.

    Raises:
      ValueError: if a shape, dtype or field does not fit, a mask has other
        values, the collection is not mutable in training or not in float32, a
        needed rng stream is missing, or `axis_name` is no mapped axis.
    """
    del temperature, draw, example_index
    self._check_z(z, mask)
    checks.check_bool("train", train)
    is_update = train and not self.is_initializing()
    axis_name = self.axis_name if is_update else None
    checks.check_axis("axis_name", axis_name)
    dtype = jnp.asarray(z).dtype  # of a NumPy float64, what JAX makes of it
    is_unmasked = masks.as_bool(mask, z.shape[:-1]).reshape(-1)
    points, is_finite = self._to_points(z, mask)
    is_real = is_unmasked & is_finite
    if is_update:
      self._begin_update(points, is_real)
    codes, quantized = self._search(points, is_real)
    error = masks.mean_square(
      points, jax.lax.stop_gradient(quantized), is_real, axis_name
    )
    loss = self.commitment_cost * error
    if self.update == "gradient":
      loss += masks.mean_square(
        jax.lax.stop_gradient(points), quantized, is_real, axis_name
      )
    has_sums = is_update and self.update != "gradient"
    statistics = self._statistics(points, codes, is_real, axis_name, has_sums)
    if is_update:
      self._move(statistics)
      self._revive(points, is_real)
    quantized = jax.lax.stop_gradient(quantized)
    values = self._from_points(
      estimators.straight_through(quantized, points), z.shape
    )
    values = masks.keep_gradient(values, is_real.reshape(z.shape[:-1]))
    error = jax.lax.stop_gradient(error)
    if axis_name is not None:
      error = jax.lax.pmean(error, axis_name)
    return base.Quantized(
      values=values.astype(dtype),
      codes=codes.reshape(z.shape[:-1]),
      loss=loss,
      metrics={
        "quantization_error": error,
        "perplexity": metrics.perplexity(statistics.counts, self._shard_axis),
        "usage": metrics.usage(statistics.counts, self._shard_axis),
        "nonfinite_points": masks.count(is_unmasked & ~is_finite, axis_name),
      },
      statistics=statistics if is_update else None,
    )

  def update_codebook(self, statistics: Statistics) -> None:
    """Moves the codewords as a training step with these statistics does.

    For several micro-batches as one update: quantize each with `train=True`,
    drop the collection that this returns, and add the results' `statistics` up
    with `jax.tree.map(jnp.add, a, b)`.  Codewords are not placed here: a
    codebook that starts on the data, or whose dead codewords are revived, does
    that in a training step whose collection is kept.

    Args:
      statistics: of one batch or the sum of several, over all devices.

    Raises:
      ValueError: if they are of another codebook, or the collection is not
        mutable or not in float32.
    """
    if not isinstance(statistics, Statistics):
      raise ValueError(
        f"statistics is a {type(statistics).__name__}; it must be the"
        " Statistics of a Quantized of training"
      )
    self._check_can_update()
    cluster_size = self.state["cluster_size"].value
    why = "one for each codeword"
    checks.check_shape(
      "statistics.counts", statistics.counts, cluster_size.shape, why
    )
    if self.update != "gradient":
      shape = self.state["embedding_sum"].value.shape
      sums = () if statistics.sums is None else statistics.sums
      checks.check_shape("statistics.sums", sums, shape, why)
    self._move(statistics)

  def encode(self, z: jax.Array) -> jax.Array:
    """Returns the codes of z `[..., C]`, int32 `[...]`."""
    self._check_z(z, None)
    points, is_finite = self._to_points(z)
    codes, _ = self._search(points, is_finite)
    return codes.reshape(z.shape[:-1])

  def search_space(self, z: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns what the search compares, for z `[..., C]`.

    Points float32 `[T, D]`, and codewords float32 `[N, D]`, of a sharded
    codebook this device's.
    """
    self._check_z(z, None)
    points, is_finite = self._to_points(z)
    return _with_nan(points, is_finite), self._codewords()

  def decode(self, codes: jax.Array) -> jax.Array:
    """Returns the values float32 `[..., C]` of codes `[...]`, any integers.

    A code out of range gives NaN.
    """
    checks.check_integer("codes", codes)
    indices = to_indices(codes, self.codebook_size).reshape(-1)
    if self._shard_axis is not None:
      quantized = sharded.take(indices, self._codewords(), self._shard_axis)
    else:
      in_range = indices < self.codebook_size
      # Only good indices look up, so that checks of JAX's stay silent.
      quantized = self._codewords()[jnp.where(in_range, indices, 0)]
      quantized = jnp.where(in_range[:, None], quantized, jnp.nan)
    return self._from_points(quantized, (*codes.shape, self._width))

  @property
  def _width(self) -> int:
    return self.embedding_dim if self.features is None else self.features

  def _to_points(
    self, z: jax.Array, mask: jax.Array | None = None
  ) -> tuple[jax.Array, jax.Array]:
    """z `[..., C]` -> float32 points `[T, D]`, and which were finite, `[T]`.

    Padding, and what is not finite, is zeros, before a projection and after.
    """
    z = jnp.asarray(z).astype(jnp.float32)
    is_finite = masks.finite_rows(z)
    is_unmasked = masks.as_bool(mask, z.shape[:-1])
    z = masks.keep(z, is_finite & is_unmasked)
    points, is_finite = z.reshape(-1, z.shape[-1]), is_finite.reshape(-1)
    if self.features is None:
      return points, is_finite
    points = self.project_in(points)
    is_finite &= masks.finite_rows(points)  # large numbers may add up to more
    return masks.keep(points, is_finite), is_finite

  def _from_points(
    self, points: jax.Array, shape: tuple[int, ...]
  ) -> jax.Array:
    """Points `[T, D]` -> float32 `[..., C]`."""
    values = points.reshape(*shape[:-1], self.embedding_dim)
    return values if self.features is None else self.project_out(values)

  @property
  def _shard_axis(self) -> str | None:
    """Over whose devices the codewords are cut; None where they are not."""
    is_sharded = self.shard_codebook and not self.is_initializing()
    return self.axis_name if is_sharded else None

  def _codewords(self) -> jax.Array:
    if self.update == "gradient":
      return self.embedding.astype(jnp.float32)
    return self.state["embedding"].value.astype(jnp.float32)

  def _search(
    self, points: jax.Array, is_real: jax.Array
  ) -> tuple[jax.Array, jax.Array]:
    """The codes `[T]` of points, and their codewords `[T, D]`.

    The code is 0 where a point is not real, bool `[T]`.
    """
    codewords = self._codewords()
    if self._shard_axis is not None:
      points = _with_nan(points, is_real)
      return sharded.nearest_codes(points, codewords, self._shard_axis)
    if self.shard_codebook:
      # While it is made, it may be too large for a search.
      codes = jnp.zeros(len(points), jnp.int32)
    else:
      codes = jnp.where(is_real, nearest_codes(points, codewords), 0)
    return codes, jnp.take(codewords, codes, axis=0)

  def _codebook(self) -> codebooks.Codebook:
    return codebooks.Codebook(
      **{name: variable.value for name, variable in self.state.items()}
    )

  def _store(self, codebook: codebooks.Codebook) -> None:
    for name, variable in self.state.items():
      variable.value = getattr(codebook, name)

  def _check_can_update(self) -> None:
    if not self.is_mutable_collection(COLLECTION):
      raise ValueError(
        f'train=True updates the collection "{COLLECTION}", which is not'
        f' mutable; apply with mutable=["{COLLECTION}"]'
      )
    codebooks.check_dtypes(
      {name: variable.value for name, variable in self.state.items()}
    )

  def _begin_update(self, points: jax.Array, is_real: jax.Array) -> None:
    """Gives the codewords their first values, where the batch makes them."""
    self._check_can_update()
    if self.codebook_init == "data":
      place = placement.initialize_from_data
      self._place(place, "codebook_init='data'", points, is_real)

  def _revive(self, points: jax.Array, is_real: jax.Array) -> None:
    """Places the codewords that are hardly chosen, where that is wanted."""
    if self.revive_below > 0:
      place = functools.partial(
        placement.revive_dead_codes, threshold=self.revive_below
      )
      self._place(place, "revive_below", points, is_real)

  def _place(
    self,
    place: Callable[..., codebooks.Codebook],
    reason: str,
    points: jax.Array,
    is_real: jax.Array,
  ) -> None:
    self._store(
      place(
        self._placement_key(reason),
        self._codebook(),
        jax.lax.stop_gradient(points),
        mask=is_real,
        axis_name=self.axis_name,
        shard_axis=self._shard_axis,
      )
    )

  def _statistics(
    self,
    points: jax.Array,
    codes: jax.Array,
    is_real: jax.Array,
    axis_name: str | None,
    has_sums: bool,
  ) -> Statistics:
    """Those of the batch, over `axis_name`; of a shard, for its codewords."""
    size, shard_axis = self.codebook_size, self._shard_axis
    points = jax.lax.stop_gradient(points)
    if shard_axis is not None:
      size, axis_name = len(self._codewords()), None
      # The search has gathered the same points.
      points = _with_nan(points, is_real)
      points, codes = collectives.gather((points, codes), shard_axis)
      is_real = masks.finite_rows(points)
      codes = collectives.codes_in_shard(codes, size, shard_axis)
    common = {"mask": is_real, "axis_name": axis_name}
    counts = code_counts(codes, size, **common)
    if not has_sums:
      return Statistics(counts, None)
    sums = code_sums(points, codes, size, **common)
    return Statistics(counts, sums)

  def _move(self, statistics: Statistics) -> None:
    """Moves the codewords, or with "gradient" counts their use alone."""
    counts = statistics.counts
    if self.update == "gradient":
      size = self.state["cluster_size"]
      size.value = self.decay * size.value + (1 - self.decay) * counts
      return
    move = updates.ema_update
    if self.update == "smoothed_ema":
      move = functools.partial(
        updates.smoothed_ema_update, shard_axis=self._shard_axis
      )
    self._store(move(self._codebook(), counts, statistics.sums, self.decay))

  def _placement_key(self, reason: str) -> jax.Array:
    if not self.has_rng(COLLECTION):
      raise ValueError(
        f"{reason} draws encodings in training, but the rng stream"
        f' "{COLLECTION}" is missing; apply with'
        f' rngs={{"{COLLECTION}": key}}, the same key on all devices'
      )
    return self.make_rng(COLLECTION)

  def _check_z(self, z: jax.Array, mask: jax.Array | None) -> None:
    name = "embedding_dim" if self.features is None else "features"
    base.check_inputs(
      z,
      mask,
      self._width,
      f"the quantizer's {name}",
      min_rank=1 + self.spatial_axes,
    )

  @nn.nowrap
  def check(self) -> None:
    """Raises a ValueError if a field does not fit."""
    checks.check_count("codebook_size", self.codebook_size)
    checks.check_count("embedding_dim", self.embedding_dim)
    if self.features is not None:
      checks.check_count("features", self.features)
    checks.check_at_least("commitment_cost", self.commitment_cost, 0)
    checks.check_at_least("revive_below", self.revive_below, 0)
    checks.check_at_least("decay", self.decay, 0)
    if self.decay >= 1:
      raise ValueError(f"decay is {self.decay}; it must be in [0, 1)")
    checks.check_count("output_kernel", self.output_kernel)
    if self.output_kernel != 1 and self.features is None:
      raise ValueError(
        f"output_kernel is {self.output_kernel}; without features there is no"
        " projection, so that it must be 1"
      )
    if self.output_kernel % 2 == 0:
      raise ValueError(
        f"output_kernel is {self.output_kernel}; it must be odd and positive"
      )
    checks.check_choice("update", self.update, UPDATES)
    checks.check_choice("codebook_init", self.codebook_init, ("normal", "data"))
    checks.check_axis_name("axis_name", self.axis_name)
    checks.check_choice("shard_codebook", self.shard_codebook, (False, True))
    if self.shard_codebook and self.axis_name is None:
      raise ValueError(
        "shard_codebook is True; it must be False without axis_name, the mapped"
        " axis of the devices that hold the shards"
      )
    if self.shard_codebook and self.update == "gradient":
      raise ValueError(
        'shard_codebook is True; it must be False with update="gradient"; use'
        ' update="ema"'
      )
    if self.update != "ema" and (
      self.codebook_init == "data" or self.revive_below > 0
    ):
      raise ValueError(
        f'update is {self.update!r}; it must be "ema" where'
        ' codebook_init="data" or revive_below above 0 place codewords'
      )


def _with_nan(points: jax.Array, is_real: jax.Array) -> jax.Array:
  """Points `[T, D]` for a search, which gives those with NaN the code 0."""
  return jnp.where(is_real[:, None], jax.lax.stop_gradient(points), jnp.nan)
