"""Encoders and decoders of the paper (section 4 and table 3).

Shapes: B images of H x W pixels, F features, f the downsampling factor.
Networks compute in `dtype`; parameters are float32.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from adq_jax.initial import InitialValues

Dtype = jnp.dtype | type


class Encoder(nn.Module):
  """Maps images `[B, H, W, channels]` to `[B, H / f, W / f, features]`.

  It has log2(f) strided 4x4 convolutions, one 3x3 convolution and two blocks.

  Attributes:
    network: the kind of the blocks, a key of `BLOCKS`.
    features: the width of the output; all strided convolutions but the last
      have half of it.
    downsampling: f, a power of two from 2.
    initial: values of the parameters.
    dtype: of the computation.
  """

  network: str = "cnn_resnet"
  features: int = 128
  downsampling: int = 4
  initial: InitialValues = InitialValues()
  dtype: Dtype = jnp.float32

  @nn.compact
  def __call__(self, images: jax.Array) -> jax.Array:
    common = {"initial": self.initial, "dtype": self.dtype}
    x = images.astype(self.dtype)
    num_strided = self.downsampling.bit_length() - 1
    for i in range(num_strided):
      is_last = i == num_strided - 1
      features = self.features if is_last else self.features // 2
      x = nn.relu(_convolved(x, features, 4, strides=2, **common))
    x = _convolved(x, self.features, 3, **common)
    return BLOCKS[self.network](self.features, **common)(x)


class Decoder(nn.Module):
  """Maps `[B, H / f, W / f, F]` to images float32 `[B, H, W, channels]`.

  It mirrors the encoder, with one 3x3 convolution, two blocks and log2(f)
  transposed 4x4 convolutions.

  Attributes:
    channels: of the images.
    network: the kind of the blocks, a key of `BLOCKS`.
    features: the width of the 3x3 convolution and of the blocks; the transposed
      convolutions have half of it, and the last has `channels`.
    downsampling: f, a power of two from 2.
    first_convolution: whether there is the 3x3 convolution; the code of the
      paper's authors has none.
    initial: values of the parameters.
    dtype: of the computation.
  """

  channels: int
  network: str = "cnn_resnet"
  features: int = 128
  downsampling: int = 4
  first_convolution: bool = True
  initial: InitialValues = InitialValues()
  dtype: Dtype = jnp.float32

  @nn.compact
  def __call__(self, z: jax.Array) -> jax.Array:
    common = {"initial": self.initial, "dtype": self.dtype}
    x = z.astype(self.dtype)
    if self.first_convolution:
      x = _convolved(x, self.features, 3, **common)
    x = BLOCKS[self.network](self.features, **common)(x)
    num_strided = self.downsampling.bit_length() - 1
    for _ in range(num_strided - 1):
      x = nn.relu(TransposedConv(self.features // 2, **common)(x))
    x = TransposedConv(self.channels, **common)(x)
    return x.astype(jnp.float32)


def _convolved(
  x: jax.Array,
  features: int,
  side: int,
  *,
  initial: InitialValues,
  dtype: Dtype,
  **more: Any,
) -> jax.Array:
  """Applies a new convolution with a kernel of that side."""
  return nn.Conv(
    features,
    (side, side),
    kernel_init=initial.of_kernel(),
    bias_init=initial.of_bias(side * side * x.shape[-1]),
    dtype=dtype,
    **more,
  )(x)


class TransposedConv(nn.Module):
  """A transposed 4x4 convolution of stride 2 that doubles both sides.

  XLA's usual form of it is slow, and on a CPU its gradient is slowest.  Each
  output pixel sees 2x2 of the kernel's 4x4 entries, its taps.  The parities of
  its row and column decide which.  So this module computes the four parities
  apart and then interleaves them.  On accelerators one dense convolution
  computes them (`_by_convolution`), and on a CPU one matrix product
  (`_by_product`).

  Attributes:
    features: the width of the output.
    initial: values of the parameters.
    dtype: of the computation.
  """

  features: int
  initial: InitialValues = InitialValues()
  dtype: Dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps `[B, H, W, F]` to `[B, 2H, 2W, features]`."""
    batch, height, width, in_features = x.shape
    kernel = self.param(
      "kernel",
      self.initial.of_kernel("fan_out"),
      (4, 4, in_features, self.features),
      jnp.float32,
    )
    bias = self.param(
      "bias",
      self.initial.of_bias(16 * self.features),
      (self.features,),
      jnp.float32,
    )
    parities = jax.lax.platform_dependent(
      x.astype(self.dtype),
      kernel.astype(self.dtype),
      cpu=_by_product,
      default=_by_convolution,
    )
    rows = [jnp.stack(columns, axis=3) for columns in parities]
    out = jnp.stack(rows, axis=2)  # [B, H, 2, W, 2, features]
    out = out.reshape(batch, 2 * height, 2 * width, self.features)
    return out + bias.astype(self.dtype)[None, None, None]


# Entry [i][j] has the transposed convolution's pixels `[B, H, W, features]` in
# rows of parity i and columns of parity j.
_Parities = list[list[jax.Array]]


def _by_convolution(x: jax.Array, kernel: jax.Array) -> _Parities:
  """Computes all four parities by one dense 2x2 convolution."""
  batch, height, width, in_features = x.shape
  features = kernel.shape[-1]
  # [4, 4, F, features] -> [2, 2, F, parities, parities, features]
  phases = kernel.reshape(2, 2, 2, 2, in_features, features)
  phases = phases.transpose(0, 2, 4, 1, 3, 5)
  dense = jax.lax.conv_general_dilated(
    x,
    phases.reshape(2, 2, in_features, -1),
    window_strides=(1, 1),
    padding=((1, 1), (1, 1)),
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )
  dense = dense.reshape(batch, height + 1, width + 1, 2, 2, features)
  # An odd row or column is made from the window that starts one later.
  return [
    [dense[:, i : height + i, j : width + j, i, j] for j in range(2)]
    for i in range(2)
  ]


def _by_product(x: jax.Array, kernel: jax.Array) -> _Parities:
  """Computes all 4x4 taps of each position by one product, and adds them up.

  On a CPU this is faster than XLA's convolutions, whose gradients transpose
  their inputs: no window is ever gathered.  The taps take four times the memory
  of the output.
  """
  # [4, 4, F, features] -> [F, 16 * features]
  flat = kernel.transpose(2, 0, 1, 3).reshape(x.shape[-1], -1)
  # Two dimensions: XLA is slow at gradients that sum over more of them.
  points = x.reshape(-1, x.shape[-1])
  taps = jnp.split((points @ flat).reshape(*x.shape[:3], -1), 16, axis=-1)

  def shifted(tap, rows, columns):
    padding = ((0, 0, 0), (rows, -rows, 0), (columns, -columns, 0), (0, 0, 0))
    return jax.lax.pad(tap, jnp.zeros((), tap.dtype), padding)

  def pixels(i, j):
    """Returns the pixels in rows of parity i and columns of parity j."""
    return sum(
      shifted(taps[4 * (2 * a + i) + 2 * b + j], 1 - i - a, 1 - j - b)
      for a in range(2)
      for b in range(2)
    )

  return [[pixels(i, j) for j in range(2)] for i in range(2)]


class ResidualBlocks(nn.Module):
  """Two residual blocks (He et al., 2016), shape unchanged.

  Attributes:
    features: F; the bottleneck of a block has a quarter of it.
    initial: values of the parameters.
    dtype: of the computation.
  """

  features: int
  initial: InitialValues = InitialValues()
  dtype: Dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    common = {"initial": self.initial, "dtype": self.dtype, "use_bias": False}
    for _ in range(2):
      y = _convolved(nn.relu(x), self.features // 4, 3, **common)
      x += _convolved(nn.relu(y), self.features, 1, **common)
    return nn.relu(x)


class InceptionBlocks(nn.Module):
  """Two inception modules (Szegedy et al., 2015), shape unchanged.

  Attributes:
    features: F; each of the four branches has a quarter of it.
    initial: values of the parameters.
    dtype: of the computation.
  """

  features: int
  initial: InitialValues = InitialValues()
  dtype: Dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    common = {"initial": self.initial, "dtype": self.dtype}

    def conv(x, features, side):
      return nn.relu(_convolved(x, features, side, **common))

    x = nn.relu(x)
    width = self.features // 4
    for _ in range(2):
      branches = (
        conv(x, self.features - 3 * width, 1),
        conv(conv(x, width, 1), width, 3),
        conv(conv(x, width, 1), width, 5),
        conv(nn.max_pool(x, (3, 3), padding="SAME"), width, 1),
      )
      x = jnp.concatenate(branches, axis=-1)
    return x


def _no_blocks(
  features: int, initial: InitialValues, dtype: Dtype
) -> Callable[..., jax.Array]:
  del features, initial, dtype
  return nn.relu


BLOCKS = {
  "cnn": _no_blocks,
  "cnn_resnet": ResidualBlocks,
  "cnn_inception": InceptionBlocks,
}
