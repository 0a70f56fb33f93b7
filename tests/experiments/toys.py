"""Quantizers that are unlike those of the library, and models with them."""

import flax.linen as nn
import jax.numpy as jnp
import ml_collections

from adq_jax import VQVAE
from adq_jax.quantizers import base
from adq_jax.streams import Stream


class FSQ(base.Quantizer):
  """Finite scalar quantization: a few levels for each of a few numbers.

  It has no collection "codebook", and its codes are int32 `[..., n]`.

  Attributes:
    levels: how many of each of the n numbers, all odd.
    features: C.
    axis_name: of no meaning here.
  """

  levels: tuple[int, ...]
  features: int
  axis_name: str | None = None

  def setup(self):
    # Wide enough that new models take several levels.
    wide = nn.initializers.normal(5.0)
    self.project_in = nn.Dense(len(self.levels), kernel_init=wide)
    self.project_out = nn.Dense(self.features)

  @property
  def streams(self):
    return tuple(Stream(f"level_{i}", n) for i, n in enumerate(self.levels))

  @nn.nowrap
  def to_streams(self, codes):
    return tuple(codes[..., i] for i in range(len(self.levels)))

  @nn.nowrap
  def from_streams(self, values):
    return jnp.stack(values, axis=-1)

  def __call__(self, z, *, train=False, mask=None, **ignored):
    bounded = jnp.tanh(self.project_in(z.astype(jnp.float32)))
    codes = self._to_codes(bounded)
    grid = base.straight_through(self._to_grid(codes), bounded)
    return base.Quantized(
      values=self.project_out(grid).astype(z.dtype),
      codes=codes,
      loss=jnp.zeros(()),
      metrics={"nonfinite_points": jnp.zeros((), jnp.int32)},
    )

  def encode(self, z):
    return self._to_codes(jnp.tanh(self.project_in(z.astype(jnp.float32))))

  def decode(self, codes):
    return self.project_out(self._to_grid(codes))

  def _to_codes(self, bounded):
    half = jnp.array(self.levels) // 2
    return (jnp.round(bounded * half) + half).astype(jnp.int32)

  def _to_grid(self, codes):
    half = jnp.array(self.levels) // 2
    return (codes - half) / half.astype(jnp.float32)


def create_model(
  config: ml_collections.ConfigDict,
  axis_name: str | None = None,
  levels: tuple[int, ...] = (3, 5, 7),
) -> VQVAE:
  """Takes the place of `settings.create_model`: its quantizer is an FSQ."""
  features = config.model.features
  return VQVAE(
    FSQ(levels, features, axis_name), config.data.channels, "cnn", features
  )
