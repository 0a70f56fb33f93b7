"""Turns sound into tokens, whose first stages alone are a coarser sound."""

import flax.linen as nn
import jax
import numpy as np
import optax

from adq_jax import Placement
from adq_jax import ResidualQuantizer

RATE, STRIDE = 8000, 16  # samples a second, and samples of one position


class Tokenizer(nn.Module):
  quantizer: ResidualQuantizer

  def setup(self):
    self.encoder = nn.Conv(16, [32], STRIDE)
    self.decoder = nn.ConvTranspose(1, [32], [STRIDE])

  def __call__(self, sound, train=False):  # [B, samples, 1]
    result = self.quantizer(self.encoder(sound), train=train)
    return self.decoder(result.values), result

  def decode(self, codes, num_stages):
    return self.decoder(self.quantizer.decode(codes, num_stages))


def make_notes(rng: np.random.Generator) -> np.ndarray:
  """Returns a quarter of a second of 16 notes, float32 [16, 2048, 1]."""
  seconds, partial = np.arange(2048) / RATE, np.arange(1, 6)[:, None]
  pitch = rng.uniform(100, 400, (16, 1, 1)) * partial
  decay = rng.uniform(2, 8, (16, 1, 1)) * partial
  waves = np.exp(-decay * seconds) * np.sin(2 * np.pi * pitch * seconds)
  return (waves / partial).sum(axis=1)[..., None].astype(np.float32)


def run(steps: int, num_stages: int) -> None:
  """Trains, and prints the signal-to-noise ratio of the first stages."""
  # Late residuals are short: codewords that start on data are so, too.  Half of
  # the examples train with some stages alone, so that the decoder knows these.
  quantizer = ResidualQuantizer(
    num_stages, 64, 16, placement=Placement("data", 0.1), stage_dropout=0.5
  )
  model, optimizer = Tokenizer(quantizer), optax.adam(3e-3)
  rng = np.random.default_rng(0)
  variables = jax.jit(model.init)(jax.random.key(0), make_notes(rng))
  moments = optimizer.init(variables["params"])

  @jax.jit
  def step(variables, moments, sound, keys):
    def loss_of(params):
      given = {**variables, "params": params}
      # Training moves the codewords, without gradients.
      (decoded, result), updated = model.apply(
        given, sound, train=True, mutable=["codebook"], rngs=keys
      )
      return ((decoded - sound) ** 2).mean() + result.loss, updated

    gradients, updated = jax.grad(loss_of, has_aux=True)(variables["params"])
    change, moments = optimizer.update(gradients, moments)
    params = optax.apply_updates(variables["params"], change)
    return {"params": params, **updated}, moments

  for i in range(steps):
    keys = {"codebook": jax.random.key(i), "dropout": jax.random.key(-1 - i)}
    variables, moments = step(variables, moments, make_notes(rng), keys)

  sound = make_notes(rng)
  _, result = jax.jit(model.apply)(variables, sound)
  for stages in range(1, num_stages + 1):
    decoded = model.apply(variables, result.codes, stages, method="decode")
    ratio = (sound**2).mean() / ((decoded - sound) ** 2).mean()
    rate = f"{stages * np.log2(64) * RATE / STRIDE / 1000:4.1f} kbit/s"
    print(f"{stages} stages, {rate}: {10 * np.log10(ratio):.1f} dB")


if __name__ == "__main__":
  run(steps=300, num_stages=4)
