"""Encoders and decoders of the paper (section 4 and table 3).

Shapes: B images, H and W their sides, F their features, f the downsampling.
Networks compute in `dtype`; parameters are float32.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

Dtype = jnp.dtype | type


class Encoder(nn.Module):
  """Images `[B, H, W, channels]` -> `[B, H / f, W / f, features]`.

  log2(f) strided 4x4 convolutions, one 3x3 convolution and two blocks.

  Attributes:
    network: what the blocks are, a key of `BLOCKS`.
    features: width of the output; the first strided convolutions have half.
    downsampling: f, a power of two.
    dtype: of the computation.
  """

  network: str = "cnn_resnet"
  features: int = 128
  downsampling: int = 4
  dtype: Dtype = jnp.float32

  @nn.compact
  def __call__(self, images: jax.Array) -> jax.Array:
    x = images.astype(self.dtype)
    num_strided = self.downsampling.bit_length() - 1
    for i in range(num_strided):
      is_last = i == num_strided - 1
      x = nn.Conv(
        self.features if is_last else self.features // 2,
        (4, 4),
        strides=2,
        dtype=self.dtype,
      )(x)
      x = nn.relu(x)
    x = nn.Conv(self.features, (3, 3), dtype=self.dtype)(x)
    return BLOCKS[self.network](self.features, self.dtype)(x)


class Decoder(nn.Module):
  """`[B, H / f, W / f, features]` -> images `[B, H, W, channels]`, float32.

  Mirrors the encoder: one 3x3 convolution, two blocks and log2(f) transposed
  4x4 convolutions.

  Attributes:
    network, downsampling, dtype: as in `Encoder`.
    channels: of the images.
    features: width of all but the last hidden layer, which has half.
    first_convolution: whether there is the 3x3 convolution; the code of the
      paper's authors has none.
  """

  channels: int
  network: str = "cnn_resnet"
  features: int = 128
  downsampling: int = 4
  first_convolution: bool = True
  dtype: Dtype = jnp.float32

  @nn.compact
  def __call__(self, z: jax.Array) -> jax.Array:
    x = z.astype(self.dtype)
    if self.first_convolution:
      x = nn.Conv(self.features, (3, 3), dtype=self.dtype)(x)
    x = BLOCKS[self.network](self.features, self.dtype)(x)
    num_strided = self.downsampling.bit_length() - 1
    for _ in range(num_strided - 1):
      x = nn.relu(TransposedConv(self.features // 2, dtype=self.dtype)(x))
    x = TransposedConv(self.channels, dtype=self.dtype)(x)
    return x.astype(jnp.float32)


class TransposedConv(nn.Module):
  """A transposed 4x4 convolution of stride 2 that doubles both sides.

  XLA's usual form of it is slow, its gradient on a CPU most of all.  Each
  output pixel sees 2x2 of the kernel's 4x4 entries, its taps; which, depends on
  the parity of its row and column.  So the four parities are computed apart
  and then interleaved: on accelerators as one dense convolution, on a CPU as
  one matrix product, `_by_convolution` and `_by_product`.

  Attributes:
    features: width of the output.
    dtype: of the computation.
  """

  features: int
  dtype: Dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """`[B, H, W, F]` -> `[B, 2H, 2W, features]`."""
    batch, height, width, in_features = x.shape
    kernel = self.param(
      "kernel",
      nn.initializers.lecun_normal(),
      (4, 4, in_features, self.features),
      jnp.float32,
    )
    bias = self.param(
      "bias", nn.initializers.zeros, (self.features,), jnp.float32
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


# The transposed convolution's pixels by the parities of their rows and columns:
# [i][j] is `[B, H, W, features]`.
_Parities = list[list[jax.Array]]


def _by_convolution(x: jax.Array, kernel: jax.Array) -> _Parities:
  """One dense 2x2 convolution to all four parities."""
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
  """All 4x4 taps of each position in one product, then added where they meet.

  No window is ever gathered: faster than XLA's convolutions on a CPU, whose
  gradients transpose their inputs.  The taps take four times the memory of the
  output.
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
    """Those whose row has parity i and whose column j."""
    return sum(
      shifted(taps[4 * (2 * a + i) + 2 * b + j], 1 - i - a, 1 - j - b)
      for a in range(2)
      for b in range(2)
    )

  return [[pixels(i, j) for j in range(2)] for i in range(2)]


class ResidualBlocks(nn.Module):
  """Two residual blocks with a bottleneck of a quarter (He et al., 2016)."""

  features: int
  dtype: Dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    for _ in range(2):
      y = nn.Conv(self.features // 4, (3, 3), use_bias=False, dtype=self.dtype)(
        nn.relu(x)
      )
      x += nn.Conv(self.features, (1, 1), use_bias=False, dtype=self.dtype)(
        nn.relu(y)
      )
    return nn.relu(x)


class InceptionBlocks(nn.Module):
  """Two inception modules (Szegedy et al., 2015), a quarter for each branch."""

  features: int
  dtype: Dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    def conv(x, features, side):
      return nn.relu(nn.Conv(features, (side, side), dtype=self.dtype)(x))

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


def _no_blocks(features: int, dtype: Dtype) -> Callable[..., jax.Array]:
  del features, dtype
  return nn.relu


BLOCKS = {
  "cnn": _no_blocks,
  "cnn_resnet": ResidualBlocks,
  "cnn_inception": InceptionBlocks,
}
