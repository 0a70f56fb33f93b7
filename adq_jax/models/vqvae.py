"""The vector-quantized variational autoencoder (eqs. 1, 3, 4).

Shapes: B images, H and W their sides, f the downsampling factor.
"""

from collections.abc import Sequence
from typing import Any
from typing import ClassVar

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp

from adq_jax import checks
from adq_jax import masks
from adq_jax.models import networks
from adq_jax.quantizers import base
from adq_jax.streams import Stream


@flax.struct.dataclass
class Reconstruction:
  """What a VQVAE makes of images `[B, H, W, channels]`.

  Attributes:
    images: the reconstructions, float32, shape of the images.
    squared_error: of each image, the mean over its pixels, float32 `[B]`.
    mse: their mean over the real images, float32 `[]`.
    loss: eq. 3 or eq. 4, float32 `[]`.
    quantized: the quantizer's result, on a `[B, H / f, W / f]` grid.
  """

  images: jax.Array
  squared_error: jax.Array
  mse: jax.Array
  loss: jax.Array
  quantized: base.Quantized


class VQVAE(nn.Module):
  """Encoder, quantizer and decoder.

  Attributes:
    quantizer: any `Quantizer`, of z of this module's `features`.
    channels: of the images.
    network: `"cnn_resnet"` (the paper's), `"cnn"` or `"cnn_inception"`.
    features: width of the encoder's output and the decoder's input.
    downsampling: f, a power of two from 2.
    quantization_weight: beta of eq. 3.
    decoder_first_convolution: of `networks.Decoder`.
    dtype: what encoder and decoder compute in; the quantizer's arithmetic,
      the parameters and the losses are float32.
  """

  quantizer: base.Quantizer
  channels: int = 3
  network: str = "cnn_resnet"
  features: int = 128
  downsampling: int = 4
  quantization_weight: float = 1.0
  decoder_first_convolution: bool = True
  dtype: networks.Dtype = jnp.float32

  # Those that `decode` reads, as of a `Quantizer`.
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
    """What is sent of an image, on a grid of H / f x W / f positions."""
    return self.quantizer.streams

  @property
  def draws(self) -> bool:
    """Whether evaluation may draw the codes at random, with `draw=True`."""
    return self.quantizer.draws

  @property
  def sharded_size(self) -> int:
    """The number of codewords that devices share out; 0 where each has all."""
    return self.quantizer.sharded_size

  @nn.nowrap
  def to_streams(self, codes: Any) -> tuple[jax.Array, ...]:
    """Returns the codes of each stream, as the quantizer's `to_streams`."""
    return self.quantizer.to_streams(codes)

  @nn.nowrap
  def from_streams(self, values: Sequence[jax.Array]) -> Any:
    """Returns codes, as the quantizer's `from_streams` does."""
    return self.quantizer.from_streams(values)

  @nn.nowrap
  def sent(self, k: int, earlier: Sequence[jax.Array]) -> jax.Array | None:
    """Returns where stream k has codes, as the quantizer's `sent` does."""
    return self.quantizer.sent(k, earlier)

  @nn.nowrap
  def check(self) -> None:
    """Raises a ValueError if a field of its own does not fit."""
    checks.check_count("channels", self.channels)
    checks.check_count("features", self.features, 4)
    checks.check_count("downsampling", self.downsampling, 2)
    checks.check_choice("network", self.network, tuple(networks.BLOCKS))
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
      "dtype": self.dtype,
    }
    self.encoder = networks.Encoder(**common)
    self.decoder = networks.Decoder(
      channels=self.channels,
      first_convolution=self.decoder_first_convolution,
      **common,
    )

  def __call__(
    self,
    images: jax.Array,
    *,
    train: bool = False,
    mask: jax.Array | None = None,
    temperature: jax.Array | float = 1.0,
    draw: bool | jax.Array | None = None,
    example_index: jax.Array | None = None,
  ) -> Reconstruction:
    """Reconstructs images.

    Args:
      images: floating `[B, H, W, channels]`, in [-0.5, 0.5]; H and W multiples
        of f.
      train: whether to update the collection `"codebook"`; see the quantizer
        for the rng streams that this needs.
      mask: 1 for a real image and 0 for padding, `[B]`, of any dtype.
        Padding may hold anything: it is taken as zeros, and counts nowhere.
      temperature: of the quantizer, as are `draw` and `example_index`.
      draw: see the quantizer.
      example_index: see the quantizer.

    Raises:
      ValueError: if a shape, dtype or field does not fit.
    """
    self._check_images(images)
    checks.check_bool("train", train)
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
      train=train,
      mask=point_mask,
      temperature=temperature,
      draw=draw,
      example_index=example_index,
    )
    reconstructed = self.decoder(quantized.values)
    squared_error = jnp.square(reconstructed - images.astype(jnp.float32)).mean(
      axis=(1, 2, 3)
    )
    axis_name = self.quantizer.axis_name if train else None
    if self.is_initializing():
      axis_name = None
    mse = base.masked_mean(squared_error, is_real, axis_name)
    return Reconstruction(
      images=reconstructed,
      squared_error=squared_error,
      mse=mse,
      loss=mse + self.quantization_weight * quantized.loss,
      quantized=quantized,
    )

  def update_codebook(self, statistics: Any) -> None:
    """Moves the codewords, as the quantizer's `update_codebook` does."""
    self.quantizer.update_codebook(statistics)

  def encode(self, images: jax.Array) -> Any:
    """Returns the codes of images, on a `[B, H / f, W / f]` grid."""
    self._check_images(images)
    return self.quantizer.encode(self.encoder(images))

  def decode(self, codes: Any) -> jax.Array:
    """Returns the images float32 `[B, H, W, channels]` of codes."""
    # Rounded as the forward pass rounds, where that is in bfloat16.
    return self.decoder(self.quantizer.decode(codes).astype(self.dtype))

  def _check_images(self, images: jax.Array) -> None:
    checks.check_floating("images", images, rank=4)
    checks.check_width("images", images, self.channels, "the model's channels")
    height, width = images.shape[1:3]
    if height % self.downsampling or width % self.downsampling:
      raise ValueError(
        f"images has shape {images.shape}; its sides must be multiples of"
        f" {self.downsampling}, the model's downsampling"
      )
