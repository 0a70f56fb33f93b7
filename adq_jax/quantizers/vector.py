"""Vector quantization with one codebook (van den Oord et al., 2017).

Shapes: C features of z, N codewords, D their width, T points.
"""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from adq_jax import checks
from adq_jax import codebook as codebooks
from adq_jax import metrics
from adq_jax import sharding
from adq_jax.nearest import nearest_codes
from adq_jax.quantizers import base

COLLECTION = "codebook"


UPDATES = ("ema", "smoothed_ema", "gradient")


def _identity(key: jax.Array, shape: tuple[int, ...], dtype) -> jax.Array:
  """The first features as they are: a pool starts with one idea of z.

  Projections drawn at random give each codebook a language of its own, and a
  decoder that learns eight of them at once learns each more slowly.
  """
  del key
  *sides, rows, columns = shape  # sides of a convolution's kernel, if it is one
  centre = tuple(side // 2 for side in sides)
  eye = jnp.eye(rows, columns, dtype=dtype)
  return jnp.zeros(shape, dtype).at[centre].set(eye)


@dataclasses.dataclass(frozen=True)
class _Seen:
  """The points whose statistics a device makes: its own, or all for its shard.

  Attributes:
    points: float32 `[T, D]`.
    codes: int32 `[T]`, of the codewords that the device holds.
    size: how many these are.
    mask: 1 for a real point, `[T]`, or None.
    axis_name: the mapped axis to add up over, or None.
  """

  points: jax.Array
  codes: jax.Array
  size: int
  mask: jax.Array | None
  axis_name: str | None


class VectorQuantizer(nn.Module):
  """Replaces every vector of z by the nearest of N codewords.

  The state is in the collection `"codebook"`: `embedding`, `cluster_size`,
  `embedding_sum` and `initialized`, as in `adq_jax.Codebook`.  Training
  changes it, so apply with `mutable=["codebook"]`.  Under `pmap`, statistics
  and drawn codewords come from the batches of all devices.

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

  def setup(self):
    self._check_fields()
    if self.features is not None:
      # Float32 in full: a TPU would round to bfloat16 just before the search.
      precision = jax.lax.Precision.HIGHEST
      common = {"precision": precision, "kernel_init": _identity}
      self.project_in = nn.Dense(self.embedding_dim, **common)
      if self.output_kernel == 1:
        self.project_out = nn.Dense(self.features, **common)
      else:
        sides = (self.output_kernel, self.output_kernel)
        self.project_out = nn.Conv(self.features, sides, **common)
    names = [field.name for field in dataclasses.fields(codebooks.Codebook)]
    if self.update == "gradient":
      names = ["cluster_size"]
      self.embedding = self.param(
        "embedding",
        nn.initializers.normal(1.0),
        (self.codebook_size, self.embedding_dim),
      )

    @functools.cache
    def initial() -> codebooks.Codebook:
      key = self.make_rng(COLLECTION)
      if self.update == "smoothed_ema":
        return codebooks.init_smoothed_codebook(
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

  def __call__(
    self,
    z: jax.Array,
    *,
    train: bool = False,
    mask: jax.Array | None = None,
  ) -> base.Quantized:
    """Quantizes z with the codewords as they are, then updates these.

    Args:
      z: floating `[..., C]`, or `[..., D]` without projections.
      train: whether to update the collection `"codebook"`.  The rng stream
        `"codebook"`, the same on all devices, is needed for
        `codebook_init="data"` and for `revive_below` above 0.
      mask: 1 for a real point, `[...]`; padding counts in no statistic, loss
        or metric.

    Returns:
      Quantized, with int32 `codes` `[...]`.  Its `loss` and
      `metrics["quantization_error"]` are means over points and width;
      `metrics` also has the batch's `perplexity` (1 to N) and `usage`, the
      share of codewords chosen.  In training under `axis_name`, metrics are
      of the batch of all devices, and the mean of `loss` over devices is its
      loss; in evaluation no device looks at another, except that
      those of a sharded codebook count `perplexity` and `usage` together.

    Raises:
      ValueError: if a shape, dtype or field does not fit, the collection is
        not mutable in training, or a needed rng stream is missing.
    """
    self._check_z(z, mask)
    updates = train and not self.is_initializing()
    axis_name = self.axis_name if updates else None
    points = self._to_points(z)
    batch = {
      "mask": None if mask is None else mask.reshape(-1),
      "axis_name": axis_name,
    }
    if updates:
      self._begin_update(points, batch)
    codes, quantized = self._search(points)

    def mean_square(a, b):
      return base.masked_mean(jnp.square(a - b).mean(axis=-1), **batch)

    error = mean_square(points, jax.lax.stop_gradient(quantized))
    loss = self.commitment_cost * error
    if self.update == "gradient":
      loss += mean_square(jax.lax.stop_gradient(points), quantized)
    seen = self._seen(points, codes, batch)
    counts = codebooks.code_counts(
      seen.codes, seen.size, mask=seen.mask, axis_name=seen.axis_name
    )
    if updates:
      self._finish_update(points, seen, counts, batch)
    quantized = jax.lax.stop_gradient(quantized)
    values = self._from_points(
      base.straight_through(quantized, points), z.shape
    )
    error = jax.lax.stop_gradient(error)
    if axis_name is not None:
      error = jax.lax.pmean(error, axis_name)
    return base.Quantized(
      values=values.astype(z.dtype),
      codes=codes.reshape(z.shape[:-1]),
      loss=loss,
      metrics={
        "quantization_error": error,
        "perplexity": metrics.perplexity(counts, self._shard_axis),
        "usage": metrics.usage(counts, self._shard_axis),
      },
    )

  def encode(self, z: jax.Array) -> jax.Array:
    """Returns the codes of z `[..., C]`, int32 `[...]`."""
    self._check_z(z, None)
    codes, _ = self._search(self._to_points(z))
    return codes.reshape(z.shape[:-1])

  def search_space(self, z: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns what the search compares, for z `[..., C]`.

    Points float32 `[T, D]`, and codewords float32 `[N, D]`, of a sharded
    codebook this device's.
    """
    self._check_z(z, None)
    return self._to_points(z), self._codewords()

  def decode(self, codes: jax.Array) -> jax.Array:
    """Returns the values float32 `[..., C]` of integer codes `[...]`.

    A code out of range gives NaN.
    """
    checks.check_integer("codes", codes)
    in_range = (codes >= 0) & (codes < self.codebook_size)
    indices = jnp.where(in_range, codes, self.codebook_size).reshape(-1)
    if self._shard_axis is None:
      quantized = jnp.take(self._codewords(), indices, axis=0, mode="fill")
    else:
      quantized = sharding.take(indices, self._codewords(), self._shard_axis)
    return self._from_points(quantized, (*codes.shape, self._width))

  @property
  def _width(self) -> int:
    return self.embedding_dim if self.features is None else self.features

  def _to_points(self, z: jax.Array) -> jax.Array:
    """z `[..., C]` -> float32 points `[T, D]`."""
    points = z.astype(jnp.float32).reshape(-1, z.shape[-1])
    return points if self.features is None else self.project_in(points)

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
      return self.embedding
    codewords = self.state["embedding"].value
    if self._shard_axis is not None:
      sharding.check_shard(codewords, self.codebook_size, self._shard_axis)
    return codewords

  def _search(self, points: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The codes `[T]` of points, and their codewords `[T, D]`."""
    codewords = self._codewords()
    if self._shard_axis is not None:
      everywhere = sharding.gather(
        jax.lax.stop_gradient(points), self._shard_axis
      )
      return sharding.nearest_codes(everywhere, codewords, self._shard_axis)
    if self.shard_codebook:
      # While it is made, it may be too large for a search.
      codes = jnp.zeros(len(points), jnp.int32)
    else:
      codes = nearest_codes(points, codewords)
    return codes, jnp.take(codewords, codes, axis=0)

  def _codebook(self) -> codebooks.Codebook:
    return codebooks.Codebook(
      **{name: variable.value for name, variable in self.state.items()}
    )

  def _store(self, codebook: codebooks.Codebook) -> None:
    for name, variable in self.state.items():
      variable.value = getattr(codebook, name)

  def _begin_update(self, points: jax.Array, batch) -> None:
    """Gives the codewords their first values, where the batch makes them."""
    if not self.is_mutable_collection(COLLECTION):
      raise ValueError(
        f'train=True updates the collection "{COLLECTION}", which is not'
        f' mutable; apply with mutable=["{COLLECTION}"]'
      )
    if self.codebook_init == "data":
      self._store(
        codebooks.initialize_from_data(
          self._placement_key("codebook_init='data'"),
          self._codebook(),
          jax.lax.stop_gradient(points),
          shard_axis=self._shard_axis,
          **batch,
        )
      )

  def _seen(self, points: jax.Array, codes: jax.Array, batch) -> "_Seen":
    points = jax.lax.stop_gradient(points)
    axis = self._shard_axis
    if axis is None:
      return _Seen(points, codes, self.codebook_size, **batch)
    size = len(self._codewords())
    points, codes, mask = sharding.gather((points, codes, batch["mask"]), axis)
    codes = sharding.codes_in_shard(codes, size, axis)
    return _Seen(points, codes, size, mask, axis_name=None)

  def _finish_update(
    self, points: jax.Array, seen: "_Seen", counts: jax.Array, batch
  ) -> None:
    """Moves the codewords, or with "gradient" counts their use alone."""
    if self.update == "gradient":
      size = self.state["cluster_size"]
      size.value = self.decay * size.value + (1 - self.decay) * counts
      return
    points = jax.lax.stop_gradient(points)
    sums = codebooks.code_sums(
      seen.points,
      seen.codes,
      seen.size,
      mask=seen.mask,
      axis_name=seen.axis_name,
    )
    move = codebooks.ema_update
    if self.update == "smoothed_ema":
      move = functools.partial(
        codebooks.smoothed_ema_update, shard_axis=self._shard_axis
      )
    codebook = move(self._codebook(), counts, sums, self.decay)
    if self.revive_below > 0:
      codebook = codebooks.revive_dead_codes(
        self._placement_key("revive_below"),
        codebook,
        points,
        self.revive_below,
        shard_axis=self._shard_axis,
        **batch,
      )
    self._store(codebook)

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
      min_rank=1 if self.output_kernel == 1 else 3,
    )

  def _check_fields(self) -> None:
    checks.check_at_least("codebook_size", self.codebook_size, 1)
    checks.check_at_least("embedding_dim", self.embedding_dim, 1)
    if self.features is not None:
      checks.check_at_least("features", self.features, 1)
    checks.check_at_least("commitment_cost", self.commitment_cost, 0)
    checks.check_at_least("revive_below", self.revive_below, 0)
    if not 0 <= self.decay < 1:
      raise ValueError(f"decay is {self.decay}; it must be in [0, 1)")
    if self.output_kernel != 1 and self.features is None:
      raise ValueError(
        f"output_kernel is {self.output_kernel}; without features there is no"
        " projection, so that it must be 1"
      )
    if self.output_kernel < 1 or self.output_kernel % 2 == 0:
      raise ValueError(
        f"output_kernel is {self.output_kernel}; it must be odd and positive"
      )
    checks.check_choice("update", self.update, UPDATES)
    checks.check_choice("codebook_init", self.codebook_init, ("normal", "data"))
    if self.shard_codebook and self.axis_name is None:
      raise ValueError(
        "shard_codebook needs axis_name, the mapped axis of the devices that"
        " hold the shards; it is None"
      )
    if self.shard_codebook and self.update == "gradient":
      raise ValueError(
        'shard_codebook is True, which update="gradient" does not allow; use'
        ' update="ema"'
      )
    if self.update != "ema" and (
      self.codebook_init == "data" or self.revive_below > 0
    ):
      raise ValueError(
        'codebook_init="data" and revive_below place codewords, which'
        f' update="{self.update}" does not allow; use update="ema"'
      )
