"""The vector-quantized variational autoencoder (eqs. 1, 3, 4).

Shapes: B images of H x W pixels, f the downsampling factor.
"""

from collections.abc import Sequence
from typing import Any
from typing import ClassVar

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from adq_jax import checks
from adq_jax import masks
from adq_jax import meshes
from adq_jax.initial import InitialValues
from adq_jax.models import networks
from adq_jax.options import check_option
from adq_jax.quantizers import base
from adq_jax.serialization import serializable
from adq_jax.streams import Stream


@serializable
@flax.struct.dataclass
class Reconstruction:
  """The result of a `VQVAE` for images `[B, H, W, channels]`.

  Attributes:
    images: the reconstructions, float32 `[B, H, W, channels]`.
    squared_error: the mean squared error over the pixels of each image, float32
      `[B]`.
    mse: the mean of `squared_error` over the real images, float32 `[]`.
    loss: `mse`, or what the model's `reconstruction_loss` makes of it, plus
      `quantization_weight` times the quantizer's loss (eq. 3; for a pool eq.
      4), float32 `[]`.
    quantized: the quantizer's result, on a `[B, H / f, W / f]` grid.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from adq_jax import Reconstruction, VectorQuantizer, VQVAE
    >>> model = VQVAE(VectorQuantizer(16, 8), features=8)
    >>> images = jnp.zeros((1, 8, 8, 3))
    >>> init = model.init_with_output
    >>> result, _ = jax.eval_shape(init, jax.random.key(0), images)
    >>> isinstance(result, Reconstruction), result.quantized.codes.shape
    (True, (1, 2, 2))
  """

  images: jax.Array
  squared_error: jax.Array
  mse: jax.Array
  loss: jax.Array
  quantized: base.Quantized


def _specs_of_call(images: jax.Array, **unused: Any) -> Reconstruction:
  """Returns how a result lies on a mesh: as the images."""
  del unused
  own = _specs(images)
  return Reconstruction(
    images=own,
    squared_error=own,
    mse=meshes.WHOLE,
    loss=meshes.WHOLE,
    quantized=base.specs_of_result(own, own),
  )


def _specs(images: jax.Array, **unused: Any) -> PartitionSpec:
  del unused
  return meshes.leading(images, 1)


def _specs_of_images(codes: Any) -> PartitionSpec:
  return meshes.leading(jax.tree.leaves(codes)[0], 1)


class VQVAE(nn.Module):
  """An autoencoder of images with a quantizer in the middle.

  Attributes:
    quantizer: any `Quantizer` for z of width `features`.
    channels: of the images.
    network: `"cnn_resnet"` (the paper's), `"cnn"` or `"cnn_inception"`.
    features: the width of the encoder's output and the decoder's input, 4 or
      more.
    downsampling: f, a power of two from 2.
    quantization_weight: beta of eq. 3.
    decoder_first_convolution: whether the decoder begins with a 3x3
      convolution; the code of the paper's authors has none.
    initial: values of the parameters of encoder and decoder: `InitialValues`.
    dtype: of the arithmetic of encoder and decoder; the quantizer's arithmetic,
      the parameters and the losses are float32.
    reconstruction_loss: `"mse"`; or `"log_mse"`, 0.5 log(mse), which is that of
      a decoder whose variance is always the likeliest.  SQ-VAE needs it, with
      a quantization_weight of 1 / (channels f^2).

  Raises:
    ValueError: when it is applied, if a field does not fit.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from adq_jax import VectorQuantizer, VQVAE
    >>> model = VQVAE(VectorQuantizer(16, 8), network="cnn", features=8)
    >>> images = jnp.zeros((1, 8, 8, 3))
    >>> variables = model.init(jax.random.key(0), images)
    >>> codes = model.apply(variables, images, method="encode")
    >>> codes.shape
    (1, 2, 2)
    >>> model.apply(variables, codes, method="decode").shape
    (1, 8, 8, 3)
  """

  quantizer: base.Quantizer
  channels: int = 3
  network: str = "cnn_resnet"
  features: int = 128
  downsampling: int = 4
  quantization_weight: float = 1.0
  decoder_first_convolution: bool = True
  initial: InitialValues = InitialValues()
  dtype: networks.Dtype = jnp.float32
  reconstruction_loss: str = "mse"

  # The fields that `decode` reads; a `Quantizer` has this member too.
  decoding_fields: ClassVar[tuple[str, ...]] = (
    "quantizer",
    "channels",
    "network",
    "features",
    "downsampling",
    "decoder_first_convolution",
    "dtype",
  )

  @property
  def streams(self) -> tuple[Stream, ...]:
    """The streams of an image, on a grid of H / f x W / f positions."""
    return self.quantizer.streams

  @property
  def draws(self) -> bool:
    """Whether evaluation can sample the codes, with `draw=True`."""
    return self.quantizer.draws

  @property
  def has_price(self) -> bool:
    """Whether codes depend on what a bit costs, `rate_weight`."""
    return self.quantizer.has_price

  @property
  def rng_streams(self) -> tuple[str, ...]:
    """The rng streams of which training, or a draw, may need a key."""
    return self.quantizer.rng_streams

  @property
  def example_shape(self) -> tuple[int, ...]:
    """The shape of an image of one position."""
    return (1, self.downsampling, self.downsampling, self.channels)

  @property
  def sharded_size(self) -> int:
    """The number of codewords that devices share out; 0 where each has all."""
    return self.quantizer.sharded_size

  @nn.nowrap
  def to_streams(self, codes: Any) -> tuple[jax.Array, ...]:
    """Returns the codes of each stream; see `Quantizer.to_streams`."""
    return self.quantizer.to_streams(codes)

  @nn.nowrap
  def from_streams(self, values: Sequence[jax.Array]) -> Any:
    """Returns the codes of streams; see `Quantizer.from_streams`."""
    return self.quantizer.from_streams(values)

  @nn.nowrap
  def sent(self, k: int, earlier: Sequence[jax.Array]) -> jax.Array | None:
    """Returns where stream k has codes; see `Quantizer.sent`."""
    return self.quantizer.sent(k, earlier)

  @nn.nowrap
  def check(self) -> None:
    """Raises a ValueError if a field does not fit, the quantizer's excepted."""
    checks.check_count("channels", self.channels)
    checks.check_count("features", self.features, 4)
    checks.check_count("downsampling", self.downsampling, 2)
    checks.check_choice("network", self.network, tuple(networks.BLOCKS))
    checks.check_choice(
      "reconstruction_loss",
      self.reconstruction_loss,
      tuple(_RECONSTRUCTION_LOSSES),
    )
    check_option("initial", self.initial, InitialValues, "InitialValues()")
    factor = self.downsampling
    if factor & (factor - 1):
      raise ValueError(
        f"downsampling is {factor}; it must be a power of two, 2 or more"
      )

  def setup(self):
    self.check()
    common = {
      "network": self.network,
      "features": self.features,
      "downsampling": self.downsampling,
      "initial": self.initial,
      "dtype": self.dtype,
    }
    self.encoder = networks.Encoder(**common)
    self.decoder = networks.Decoder(
      channels=self.channels,
      first_convolution=self.decoder_first_convolution,
      **common,
    )

  @meshes.inside_auto(_specs_of_call)
  def __call__(
    self,
    images: jax.Array,
    *,
    train: bool | None = None,
    mask: jax.Array | None = None,
    temperature: jax.Array | float = 1.0,
    draw: bool | jax.Array | None = None,
    example_index: jax.Array | None = None,
    rate_weight: jax.Array | float | None = None,
  ) -> Reconstruction:
    """Reconstructs images.

    Args:
      images: floating `[B, H, W, channels]`, in [-0.5, 0.5]; H and W multiples
        of f.
      train: whether to update the collection `"codebook"`; by default what the
        quantizer's field says, or False.  The quantizer says which rng streams
        this needs.
      mask: 1 for a real image and 0 for padding, `[B]`, of any dtype.  Padding
        may hold anything: zeros replace it, and it counts nowhere.
      temperature: passed to the quantizer.
      draw: passed to the quantizer.
      example_index: passed to the quantizer.
      rate_weight: what a bit costs, a number or `[B]`; passed to the quantizer.

    Returns:
      A `Reconstruction`.

    Raises:
      ValueError: if a shape, dtype or field does not fit.
    """
    self._check_images(images)
    is_step = base.is_training(self.quantizer, train)
    if mask is not None:
      checks.check_mask("mask", mask, images.shape[:1], "one for each image")
    is_real = masks.as_bool(mask, images.shape[:1])
    # Padding may hold NaN, which would reach the encoder's gradient.
    images = masks.keep(jnp.asarray(images), is_real)
    z = self.encoder(images)
    point_mask = None
    if mask is not None:
      point_mask = jnp.broadcast_to(is_real[:, None, None], z.shape[:-1])
    quantized = self.quantizer(
      z,
      **({} if train is None else {"train": train}),
      mask=point_mask,
      temperature=temperature,
      draw=draw,
      example_index=example_index,
      **self._prices(rate_weight),
    )
    reconstructed = self.decoder(quantized.values)
    squared_error = jnp.square(reconstructed - images.astype(jnp.float32)).mean(
      axis=(1, 2, 3)
    )
    axis_name = self.quantizer.axis_name if is_step else None
    if self.is_initializing():
      axis_name = None
    mse = masks.mean(squared_error, is_real, axis_name)
    reconstruction_loss = _RECONSTRUCTION_LOSSES[self.reconstruction_loss]
    return Reconstruction(
      images=reconstructed,
      squared_error=squared_error,
      mse=mse,
      loss=reconstruction_loss(mse, axis_name)
      + self.quantization_weight * quantized.loss,
      quantized=quantized,
    )

  def update_codebook(self, statistics: Any) -> None:
    """Moves the codewords by the statistics of a quantizer's result."""
    self.quantizer.update_codebook(statistics)

  @meshes.inside_auto(_specs)
  def encode(
    self, images: jax.Array, *, rate_weight: jax.Array | float | None = None
  ) -> Any:
    """Returns the codes of images, on a `[B, H / f, W / f]` grid.

    Args:
      images: floating `[B, H, W, channels]`, in [-0.5, 0.5]; H and W multiples
        of f.
      rate_weight: what a bit costs, a number or `[B]`; passed to the quantizer.

    Raises:
      ValueError: if the shape or dtype does not fit.
    """
    self._check_images(images)
    z = self.encoder(images)
    return self.quantizer.encode(z, **self._prices(rate_weight))

  @meshes.inside_auto(_specs_of_images)
  def decode(self, codes: Any) -> jax.Array:
    """Returns the images float32 `[B, H, W, channels]` of codes.

    Args:
      codes: from `encode`, or from the result of a forward pass.

    Raises:
      ValueError: if the codes have another dtype or structure.
    """
    # The forward pass rounds here too, where it computes in bfloat16.
    return self.decoder(self.quantizer.decode(codes).astype(self.dtype))

  def _prices(self, rate_weight: Any) -> dict[str, Any]:
    """Returns the price as the quantizer takes it, if it takes one."""
    return {"rate_weight": rate_weight} if self.has_price else {}

  def _check_images(self, images: jax.Array) -> None:
    checks.check_floating("images", images, rank=4)
    checks.check_width("images", images, self.channels, "the model's channels")
    height, width = images.shape[1:3]
    if height % self.downsampling or width % self.downsampling:
      raise ValueError(
        f"images has shape {images.shape}; its sides must be multiples of"
        f" {self.downsampling}, the model's downsampling"
      )


def _mse(mse: jax.Array, axis_name: str | None) -> jax.Array:
  del axis_name
  return mse


def _log_mse(mse: jax.Array, axis_name: str | None) -> jax.Array:
  """Returns half the logarithm of the batch's error, float32 `[]`.

  Args:
    mse: of this device; the mean over devices is the batch's.
    axis_name: the mapped axis over which the batch is spread.  The mean of
      devices' gradients is the gradient of the result.
  """
  whole = jax.lax.stop_gradient(mse)
  if axis_name is not None:
    whole = jax.lax.pmean(whole, axis_name)
  whole = jnp.maximum(whole, _LEAST_ERROR)
  share = (mse - jax.lax.stop_gradient(mse)) / whole
  return (jnp.log(whole) + share) / 2


_LEAST_ERROR = 1e-12  # whose logarithm is finite, as is its gradient
_RECONSTRUCTION_LOSSES = {"mse": _mse, "log_mse": _log_mse}
