"""What all quantizers share: their interface, and their result."""

from collections.abc import Sequence
from typing import Any
from typing import ClassVar

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from adq_jax import checks
from adq_jax import meshes
from adq_jax.serialization import serializable
from adq_jax.streams import Stream


class Quantizer(nn.Module, kw_only=True):
  """What every quantizer offers, and all that a model may ask it for.

  A subclass is a Flax module with fields.  Of its members, those above
  `__call__` are functions of the fields alone, so that they need neither
  variables nor `apply`; the others are applied.  tests/adq_jax/quantizers has a
  contract that every quantizer keeps.

  In training a quantizer may be soft.  In evaluation it is hard: its values are
  those of its codes.

  Attributes:
    decoding_fields: the names of the fields that `decode` reads, so that codes
      mean something else where these differ; None: all of them.
    train: what calls do that leave the argument `train` out; None: they do not
      train.  `nn.vmap`, `nn.remat` and `nn.jit` of a class pass on no
      keywords, or trace them, so with these the field says it.
  """

  train: bool | None = None

  decoding_fields: ClassVar[tuple[str, ...] | None] = None

  def __init_subclass__(cls, **kwargs: Any):
    # Before Flax wraps the methods.
    for name, specs in _SPECS.items():
      if name in cls.__dict__:
        setattr(cls, name, meshes.inside_auto(specs)(cls.__dict__[name]))
    super().__init_subclass__(**kwargs)

  @property
  def streams(self) -> tuple[Stream, ...]:
    """What is sent of the codes; `()` where these are not finite in number."""
    raise NotImplementedError(f"{type(self).__name__}.streams")

  @property
  def draws(self) -> bool:
    """Whether evaluation may draw the codes at random, with `draw=True`."""
    return False

  @property
  def has_gradient(self) -> bool:
    """Whether values have a gradient to z."""
    return True

  @property
  def has_price(self) -> bool:
    """Whether codes depend on what a bit costs, `rate_weight`."""
    return False

  @property
  def rng_streams(self) -> tuple[str, ...]:
    """The rng streams of which training, or a draw, may need a key."""
    return ()

  @property
  def example_shape(self) -> tuple[int, ...]:
    """The shape of a small z that `init` can be called with."""
    raise NotImplementedError(f"{type(self).__name__}.example_shape")

  @property
  def sharded_size(self) -> int:
    """The number of codewords that devices share out; 0 where each has all."""
    return 0

  @property
  def spatial_axes(self) -> int:
    """How many of the axes before the last one a position's values come from.

    0 where every position stands for itself, so that z may have any leading
    axes: points `[T, C]`, sound `[B, T, C]`, video `[B, T, H, W, C]`.  2 where
    positions of an image have to do with each other: z is `[..., H, W, C]`, and
    all before are images.  (So `[B, T, C]` would be taken for one image.)
    """
    return 0

  @property
  def axis_name(self) -> str | None:
    """The mapped axis over which a training batch is spread; None: one device.

    It is a field of most quantizers.
    """
    return None

  @nn.nowrap
  def to_streams(self, codes: Any) -> tuple[jax.Array, ...]:
    """Returns the codes of each stream.

    Args:
      codes: of this quantizer.

    Returns:
      for each stream int32 `[...]`, in its alphabet; 0 where nothing is sent.
    """
    raise NotImplementedError(f"{type(self).__name__}.to_streams")

  @nn.nowrap
  def from_streams(self, values: Sequence[jax.Array]) -> Any:
    """Returns codes that decode alike: the inverse of `to_streams`."""
    raise NotImplementedError(f"{type(self).__name__}.from_streams")

  @nn.nowrap
  def sent(self, k: int, earlier: Sequence[jax.Array]) -> jax.Array | None:
    """Returns where stream k has codes, bool `[...]`; None: everywhere.

    Args:
      k: the place of the stream in `streams`.
      earlier: the codes of the streams before it.
    """
    del k, earlier
    return None

  @nn.nowrap
  def check(self) -> None:
    """Raises a ValueError, "FIELD is X; it must be Y", if one does not fit."""
    if self.train is not None:
      checks.check_bool("train", self.train)

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
  ) -> "Quantized":
    """Quantizes z `[..., C]`.  A quantizer ignores arguments it has no use for.

    Args:
      z: what to quantize, floating.
      train: whether to update the collections that training changes; by default
        what the field says.
      mask: 1 for a real point and 0 for padding, `[...]`.
      temperature: of a relaxed choice, above 0, a scalar.
      draw: whether codes are sampled; by default in training alone.
      example_index: what tells examples apart for which codes are sampled, int
        `[B]`.
      rate_weight: what a bit costs, a number or `[B]`; by default what a field
        says.
    """
    raise NotImplementedError(f"{type(self).__name__}.__call__")

  def encode(
    self, z: jax.Array, *, rate_weight: jax.Array | float | None = None
  ) -> Any:
    """Returns the codes that evaluation gives z `[..., C]`.

    Args:
      z: what to quantize, floating.
      rate_weight: what a bit costs, a number or `[B]`; by default what a field
        says.
    """
    raise NotImplementedError(f"{type(self).__name__}.encode")

  def decode(self, codes: Any) -> jax.Array:
    """Returns the values float32 `[..., C]` of codes."""
    raise NotImplementedError(f"{type(self).__name__}.decode")

  @nn.nowrap
  def _update_of(self, train: bool | None) -> tuple[bool, str | None]:
    """Returns whether a call updates its state, and over which mapped axis.

    Raises:
      ValueError: as `is_training`, or if `axis_name` is no mapped axis.
    """
    is_update = is_training(self, train) and not self.is_initializing()
    axis_name = self.axis_name if is_update else None
    checks.check_axis("axis_name", axis_name)
    return is_update, axis_name


def is_training(quantizer: Quantizer, train: bool | None) -> bool:
  """Returns whether a call is a step of training.

  Args:
    quantizer: which is called.
    train: the argument of the call; None where it was left out.

  Raises:
    ValueError: if `train` is no bool, or given beside the quantizer's field.
  """
  if train is None:
    return bool(quantizer.train)
  checks.check_bool("train", train)
  if quantizer.train is not None:
    raise ValueError(
      f"train is {train}; it must be left out of calls where the quantizer has"
      f" the field train={quantizer.train}"
    )
  return train


def specs_of_result(values: PartitionSpec, codes: PartitionSpec) -> "Quantized":
  """Returns how a result lies on a mesh, given it of values and of codes."""
  whole = meshes.WHOLE
  return Quantized(values, codes, loss=whole, metrics=whole, statistics=whole)


def _specs_of_call(z: jax.Array, **unused: Any) -> "Quantized":
  del unused
  return specs_of_result(meshes.leading(z, z.ndim), _specs_of_codes(z))


def _specs_of_codes(z: jax.Array, **unused: Any) -> PartitionSpec:
  del unused
  return meshes.leading(z, z.ndim - 1)


def _specs_of_values(codes: Any, *unused: Any, **more: Any) -> PartitionSpec:
  del unused, more
  first, *_ = jax.tree.leaves(codes)
  return meshes.leading(first, jnp.ndim(first))


_SPECS = {
  "__call__": _specs_of_call,
  "encode": _specs_of_codes,
  "decode": _specs_of_values,
}


@serializable
@flax.struct.dataclass
class Quantized:
  """What a quantizer makes of z `[..., C]`.

  Attributes:
    values: the quantized z, with the gradient of the straight-through
      estimator; shape and dtype of z.  In evaluation, without a mask, they are
      `decode(codes)` cast to that dtype, to the bit: for every z, also where it
      is infinite or NaN, and with the sign of zeros.
    codes: the choice of every point, which `decode` turns into `values`:
      int32 `[...]`, or a structure of such arrays.
    loss: float32 `[]`, the codebook term, where it reaches a parameter, plus
      commitment_cost times the commitment term.
    metrics: float32 arrays by name; each quantizer says which.  All have
      `nonfinite_points`, how many points were NaN or infinite and not padding:
      they count in nothing else.
    statistics: in training, what the codebook was, or was to be, updated with:
      `Statistics`, of a pool a tuple of them; None in evaluation.
  """

  values: jax.Array
  codes: Any
  loss: jax.Array
  metrics: dict[str, jax.Array]
  statistics: Any = None


def check_projected(
  z: jax.Array,
  mask: jax.Array | None,
  features: int | None,
  embedding_dim: int,
  min_rank: int = 1,
) -> None:
  """Raises a ValueError unless z fits projections, or codewords without them.

  Args:
    z: floating `[..., C]`, or `[..., D]` without projections.
    mask: 1 for a real point and 0 for padding, `[...]`.
    features: C; None without projections.
    embedding_dim: D.
    min_rank: the fewest axes of z.
  """
  name, width = "features", features
  if features is None:
    name, width = "embedding_dim", embedding_dim
  check_inputs(z, mask, width, f"the quantizer's {name}", min_rank=min_rank)


def check_inputs(
  z: jax.Array,
  mask: jax.Array | None,
  width: int,
  why: str,
  min_rank: int = 1,
) -> None:
  """Raises a ValueError unless z is `[..., width]` and mask fits it."""
  checks.check_floating("z", z, min_rank=min_rank)
  checks.check_width("z", z, width, why)
  if mask is not None:
    checks.check_mask("mask", mask, z.shape[:-1], "one weight for each point")
