"""Labels by a random projection (BEST-RQ; Chiu et al., 2022).

Shapes: C features of z, G codebooks of N codewords of width D, T points.
"""

from collections.abc import Sequence
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from adq_jax import checks
from adq_jax import masks
from adq_jax import metrics
from adq_jax.codebook import lookup
from adq_jax.codebook.similarity import Cosine
from adq_jax.codebook.statistics import code_counts
from adq_jax.quantizers import base
from adq_jax.quantizers import constants
from adq_jax.quantizers import projections
from adq_jax.streams import Stream

_MOST_CODEBOOKS = 256  # each is traced


class RandomProjectionQuantizer(base.Quantizer):
  """Labels points with the nearest codewords of random codebooks.

  A random matrix projects a point to width D, and the label is the codeword of
  the largest cosine; see `Cosine`.  Matrix and codewords are random and stay as
  they are, so labels of the same variables never change.  A model that sees
  masked inputs learns to predict them, as in Chiu et al., 2022,
  "Self-supervised Learning with Random-projection Quantizer for Speech
  Recognition".  Several codebooks, each with a matrix of its own, give several
  labels, for as many softmaxes.

      labeller = RandomProjectionQuantizer(8192, 16, features=320)

  Normalize the inputs over the data set to mean 0 and standard deviation 1, as
  in the paper: of points that lie far from zero, all have the same few labels.

  Nothing is learned.  The constants are in the collection `"constants"`, which
  is neither of parameters nor of moving averages: optimizers do not see it, and
  no call changes it.  There is no loss.

  This is no bottleneck: values only show what labels say of a direction.  They
  are the codewords of length 1 times the transposed matrices, and the mean over
  codebooks, and they have no gradient.

  Attributes:
    codebook_size: N.
    embedding_dim: D, at least 2.
    features: C, the width of z.
    num_codebooks: G, at most 256.
    axis_name: the mapped axis over which a training batch is spread.

  Example:
    >>> import jax
    >>> from adq_jax import RandomProjectionQuantizer
    >>> quantizer = RandomProjectionQuantizer(32, 4, features=8)
    >>> z = jax.random.normal(jax.random.key(0), (2, 5, 8))
    >>> variables = quantizer.init(jax.random.key(1), z)
    >>> sorted(variables["constants"])
    ['embedding', 'projection']
    >>> quantizer.apply(variables, z, method="encode").shape
    (2, 5, 1)
  """

  codebook_size: int
  embedding_dim: int
  features: int
  num_codebooks: int = 1
  axis_name: str | None = None

  decoding_fields: ClassVar[tuple[str, ...]] = (
    "codebook_size",
    "embedding_dim",
    "features",
    "num_codebooks",
  )

  @property
  def streams(self) -> tuple[Stream, ...]:
    """The codes of each codebook."""
    return tuple(
      Stream(f"label_{g}", self.codebook_size, width=self.embedding_dim)
      for g in range(self.num_codebooks)
    )

  @property
  def has_gradient(self) -> bool:
    """False: labels are what this is for."""
    return False

  @property
  def example_shape(self) -> tuple[int, ...]:
    """One point."""
    return (1, self.features)

  @nn.nowrap
  def to_streams(self, codes: jax.Array) -> tuple[jax.Array, ...]:
    """Returns the codes of each codebook, int32 `[...]`."""
    self._check_codes(codes)
    codes = jnp.asarray(codes, jnp.int32)
    return tuple(codes[..., g] for g in range(self.num_codebooks))

  @nn.nowrap
  def from_streams(self, values: Sequence[jax.Array]) -> jax.Array:
    """Returns the codes, int32 `[..., G]`."""
    return jnp.stack(values, axis=-1)

  def setup(self):
    self.check()
    of_each = (self.num_codebooks, self.embedding_dim)
    xavier = nn.initializers.variance_scaling(
      1.0, "fan_avg", "uniform", in_axis=0, out_axis=2, batch_axis=(1,)
    )
    normal = nn.initializers.normal(1.0)
    self.projection = constants.make(
      self, "projection", xavier, (self.features, *of_each)
    )
    codebooks = (self.num_codebooks, self.codebook_size, self.embedding_dim)
    self.embedding = constants.make(self, "embedding", normal, codebooks)

  def __call__(
    self,
    z: jax.Array,
    *,
    train: bool | None = None,
    mask: jax.Array | None = None,
    temperature: jax.Array | float = 1.0,
    draw: bool | jax.Array | None = None,
    example_index: jax.Array | None = None,
    rate_weight: jax.Array | float | None = None,
  ) -> base.Quantized:
    """Labels z.

    Args:
      z: floating `[..., C]`.
      train: ignored but for `axis_name`: in training, metrics are of the batch
        of all devices.
      mask: 1 for a real point and 0 for padding, `[...]`, of any dtype.
        Padding may hold anything: its codes are 0, and it counts in no metric.
        A point that is not finite counts as padding, whatever the mask.
      temperature: ignored, as are the arguments after it.
      draw: ignored.
      example_index: ignored.
      rate_weight: ignored.

    Returns:
      Quantized, with int32 `codes` `[..., G]`, and values without a gradient.
      The `loss` is 0.  Of its metrics, `quantization_error`, on the unit
      sphere, `perplexity` and `usage` are vectors `[G]`, and `nonfinite_points`
      is one number.

    Raises:
      ValueError: if a shape, dtype or field does not fit, a mask has other
        values, or `axis_name` is no mapped axis.
    """
    del temperature, draw, example_index, rate_weight
    self._check_z(z, mask)
    _, axis_name = self._update_of(train)
    is_unmasked = masks.as_bool(mask, z.shape[:-1]).reshape(-1)
    points, is_finite = self._project(z, mask)
    is_real = is_unmasked & is_finite
    codes, taken = self._search(points, is_real)
    counts = [
      code_counts(
        codes[:, g], self.codebook_size, mask=is_real, axis_name=axis_name
      )
      for g in range(self.num_codebooks)
    ]
    errors = jnp.stack(
      [
        masks.mean_square(points[:, g], taken[:, g], is_real, axis_name)
        for g in range(self.num_codebooks)
      ]
    )
    if axis_name is not None:
      errors = jax.lax.pmean(errors, axis_name)
    values = self._values(taken, z.shape[:-1])
    return base.Quantized(
      values=values.astype(jnp.asarray(z).dtype),  # NumPy's float64 is none
      codes=codes.reshape(*z.shape[:-1], self.num_codebooks),
      loss=jnp.zeros((), jnp.float32),
      metrics={
        "quantization_error": errors,
        "perplexity": jnp.stack([metrics.perplexity(x) for x in counts]),
        "usage": jnp.stack([metrics.usage(x) for x in counts]),
        "nonfinite_points": masks.count(is_unmasked & ~is_finite, axis_name),
      },
    )

  def encode(
    self, z: jax.Array, *, rate_weight: jax.Array | float | None = None
  ) -> jax.Array:
    """Returns the codes of z `[..., C]`, int32 `[..., G]`; see `__call__`."""
    del rate_weight
    self._check_z(z, None)
    codes, _ = self._search(*self._project(z, None))
    return codes.reshape(*z.shape[:-1], self.num_codebooks)

  def decode(self, codes: jax.Array) -> jax.Array:
    """Returns the values float32 `[..., C]` of codes `[..., G]`, any integers.

    One out of range gives NaN.
    """
    self._check_codes(codes)
    flat = codes.reshape(-1, self.num_codebooks)
    taken = [
      lookup.take(flat[:, g], codewords, self.codebook_size, None)
      for g, codewords in enumerate(self._codewords())
    ]
    return self._values(jnp.stack(taken, axis=1), codes.shape[:-1])

  def _codewords(self) -> jax.Array:
    """Returns the codewords on the unit sphere, float32 `[G, N, D]`."""
    return Cosine().compared(self.embedding.value.astype(jnp.float32))

  def _matrix(self) -> jax.Array:
    """Returns all projections next to each other, float32 `[C, G D]`."""
    matrix = self.projection.value.astype(jnp.float32)
    return matrix.reshape(self.features, -1)

  def _project(
    self, z: jax.Array, mask: jax.Array | None
  ) -> tuple[jax.Array, jax.Array]:
    """Returns points `[T, G, D]` on the unit sphere, and which are finite."""
    points, is_finite = projections.to_points(
      jax.lax.stop_gradient(z),
      mask,
      lambda x: projections.times(x, self._matrix()),
    )
    points = points.reshape(-1, self.num_codebooks, self.embedding_dim)
    return Cosine().compared(points), is_finite

  def _search(
    self, points: jax.Array, is_real: jax.Array
  ) -> tuple[jax.Array, jax.Array]:
    """Returns codes int32 `[T, G]`, and their codewords `[T, G, D]`."""
    found = [
      lookup.nearest(points[:, g], is_real, codewords, None)
      for g, codewords in enumerate(self._codewords())
    ]
    codes, taken = zip(*found, strict=True)
    return jnp.stack(codes, axis=1), jnp.stack(taken, axis=1)

  def _values(self, taken: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Returns the values float32 `[..., C]` of codewords `[T, G, D]`."""
    matrix = self._matrix().T
    taken = taken.reshape(taken.shape[0], len(matrix))
    values = projections.times(taken, matrix) / self.num_codebooks
    return values.reshape(*shape, self.features)

  @nn.nowrap
  def _check_z(self, z: jax.Array, mask: jax.Array | None) -> None:
    base.check_inputs(z, mask, self.features, "the quantizer's features")

  @nn.nowrap
  def _check_codes(self, codes: jax.Array) -> None:
    checks.check_integer("codes", codes)
    why = "the quantizer's num_codebooks"
    checks.check_width("codes", codes, self.num_codebooks, why)

  @nn.nowrap
  def check(self) -> None:
    """Raises a ValueError, "FIELD is X; it must be Y", if one does not fit."""
    super().check()
    checks.check_count("codebook_size", self.codebook_size)
    checks.check_count("embedding_dim", self.embedding_dim, 2)
    checks.check_count("features", self.features)
    checks.check_count(
      "num_codebooks", self.num_codebooks, maximum=_MOST_CODEBOOKS
    )
    checks.check_axis_name("axis_name", self.axis_name)
