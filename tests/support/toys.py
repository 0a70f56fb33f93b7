"""Quantizers that are unlike those of the library, and models with them.

None has a collection "codebook".
"""

import flax.linen as nn
import jax.numpy as jnp
import ml_collections

from adq_jax import VQVAE
from adq_jax.quantizers import base
from adq_jax.quantizers.estimators import straight_through
from adq_jax.streams import Stream

_WIDE = nn.initializers.normal(5.0)  # so that new models take several levels


class Toy(base.Quantizer):
  """Quantizes some projected numbers, each in [-1, 1].

  Attributes:
    features: C.
    axis_name: of no meaning here.
  """

  features: int
  axis_name: str | None = None

  width = 1

  def setup(self):
    self.project_in = nn.Dense(self.width, kernel_init=_WIDE)
    self.project_out = nn.Dense(self.features)

  def __call__(self, z, *, train=False, mask=None, **ignored):
    x = self._bounded(z)
    codes = self._to_codes(x)
    values = straight_through(self._to_numbers(codes), x)
    return base.Quantized(
      values=self.project_out(values).astype(z.dtype),
      codes=codes,
      loss=jnp.zeros(()),
      metrics={"nonfinite_points": jnp.zeros((), jnp.int32)},
    )

  def encode(self, z):
    return self._to_codes(self._bounded(z))

  def decode(self, codes):
    return self.project_out(self._to_numbers(codes))

  def _bounded(self, z):
    return jnp.tanh(self.project_in(z.astype(jnp.float32)))


class FSQ(Toy):
  """Finite scalar quantization: a few levels for each of a few numbers.

  Its codes are int32 `[..., n]`, and one group.

  Attributes:
    levels: how many of each of the n numbers, all odd.
  """

  levels: tuple[int, ...] = (3, 5, 7)

  @property
  def width(self):
    return len(self.levels)

  @property
  def streams(self):
    return tuple(
      Stream(f"level_{i}", n, group="levels") for i, n in enumerate(self.levels)
    )

  @nn.nowrap
  def to_streams(self, codes):
    return tuple(codes[..., i] for i in range(self.width))

  @nn.nowrap
  def from_streams(self, values):
    return jnp.stack(values, axis=-1)

  def _to_codes(self, x):
    half = jnp.array(self.levels) // 2
    return (jnp.round(x * half) + half).astype(jnp.int32)

  def _to_numbers(self, codes):
    half = jnp.array(self.levels) // 2
    return (codes - half) / half.astype(jnp.float32)


class Depths(Toy):
  """As many bits of a number as its size asks for: none, one or two.

  Its codes are a dict; what is sent depends on the first stream.
  """

  @property
  def streams(self):
    labels = ("none", "one", "two")
    depth = Stream("depth", 3, coding="entropy", labels=labels)
    return (depth, Stream("level_0", 2), Stream("level_1", 2))

  @nn.nowrap
  def to_streams(self, codes):
    depth = codes["depth"]
    levels = [
      jnp.where(self.sent(i + 1, [depth]), codes["levels"][..., i], 0)
      for i in range(2)
    ]
    return (depth, *levels)

  @nn.nowrap
  def from_streams(self, values):
    depth, *levels = values
    return {"depth": depth, "levels": jnp.stack(levels, -1)}

  @nn.nowrap
  def sent(self, k, earlier):
    return earlier[0] >= k if k else None

  def _to_codes(self, x):
    size = jnp.abs(x[..., 0])
    depth = (size > 0.3).astype(jnp.int32) + (size > 0.7)
    levels = jnp.stack([x[..., 0] > 0, size > 0.85], -1).astype(jnp.int32)
    is_sent = jnp.arange(2) < depth[..., None]
    return {"depth": depth, "levels": jnp.where(is_sent, levels, 0)}

  def _to_numbers(self, codes):
    depth, levels = codes["depth"], codes["levels"]
    sizes = jnp.stack(
      [jnp.zeros_like(depth), depth * 0 + 5, 7 + levels[..., 1]]
    )
    size = jnp.take_along_axis(sizes, depth[None], 0)[0] / 10
    return (size * (2 * levels[..., 0] - 1))[..., None]


class Grids(Toy):
  """A number for four positions, and how each differs from it.

  Its codes are a tuple, of two grids.
  """

  @property
  def streams(self):
    return (Stream("top", 9, stride=2), Stream("bottom", 3))

  @nn.nowrap
  def to_streams(self, codes):
    return codes

  @nn.nowrap
  def from_streams(self, values):
    return tuple(values)

  def _to_codes(self, x):
    top = jnp.round(4 * nn.avg_pool(x, (2, 2), (2, 2))) + 4
    rest = x - self._spread(top)
    bottom = jnp.sign(jnp.round(2 * rest)) + 1
    return tuple(code[..., 0].astype(jnp.int32) for code in (top, bottom))

  def _to_numbers(self, codes):
    top, bottom = (code[..., None] for code in codes)
    return self._spread(top) + (bottom - 1) / 2

  def _spread(self, top):
    return (top.repeat(2, axis=-3).repeat(2, axis=-2) - 4) / 4


class Soft(Toy):
  """Sends nothing that could be counted: its codes are the numbers."""

  @property
  def streams(self):
    return ()

  @nn.nowrap
  def to_streams(self, codes):
    return ()

  def _to_codes(self, x):
    return x

  def _to_numbers(self, codes):
    return codes


def create_model(
  kind: type[Toy],
  config: ml_collections.ConfigDict,
  axis_name: str | None = None,
) -> VQVAE:
  """Takes the place of `build.create_model`, given the first argument."""
  features = config.model.features
  quantizer = kind(features, axis_name)
  return VQVAE(quantizer, config.data.channels, "cnn", features)
