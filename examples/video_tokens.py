"""Turns videos of different lengths into tokens; padded frames do not count."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from adq_jax import Placement
from adq_jax import VectorQuantizer

PATCH = (2, 4, 4)  # the frames, rows and columns of one token


class Tokenizer(nn.Module):
  quantizer: VectorQuantizer

  def setup(self):
    # A kernel is as long as its stride: no token sees frames of two kinds.
    self.encoder = nn.Conv(16, PATCH, PATCH)
    self.decoder = nn.ConvTranspose(1, PATCH, PATCH)

  def __call__(self, videos, mask=None, train=False):
    result = self.quantizer(self.encoder(videos), mask=mask, train=train)
    return self.decoder(result.values), result


def make_videos(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
  """Returns moving squares [4, 8, 16, 16, 1], and whether frames are real."""
  start, speed = rng.uniform(4, 12, (4, 1, 2)), rng.uniform(-1, 1, (4, 1, 2))
  centre = start + speed * np.arange(8)[:, None]
  near = np.abs(np.arange(16) - centre[..., None]) < 4
  shown = near[:, :, 0, :, None, None] & near[:, :, 1, None, :, None]
  return shown.astype(np.float32), np.arange(8) < 2 * rng.integers(1, 5, (4, 1))


def run(steps: int) -> None:
  """Trains, and shows that leading axes are free and padding does not count."""
  quantizer = VectorQuantizer(64, 16, placement=Placement("data", 0.1))
  model, optimizer = Tokenizer(quantizer), optax.adam(1e-2)

  @jax.jit
  def step(variables, moments, videos, is_real, keys):
    # The mask has the axes of tokens; each has two frames, both real or not.
    mask = jnp.broadcast_to(is_real[:, ::2, None, None], (4, 4, 4, 4))

    def loss_of(params):
      given = {**variables, "params": params}
      (decoded, result), updated = model.apply(
        given, videos, mask, train=True, mutable=["codebook"], rngs=keys
      )
      errors = ((decoded - videos) ** 2).mean(axis=(2, 3, 4))
      return errors.mean(where=is_real) + result.loss, updated

    gradients, updated = jax.grad(loss_of, has_aux=True)(variables["params"])
    change, moments = optimizer.update(gradients, moments)
    params = optax.apply_updates(variables["params"], change)
    return {"params": params, **updated}, moments

  rng = np.random.default_rng(0)
  variables = jax.jit(model.init)(jax.random.key(0), make_videos(rng)[0])
  state = variables, optimizer.init(variables["params"])
  for i in range(steps):
    videos, is_real = make_videos(rng)
    keys = {"codebook": jax.random.key(i)}
    state = step(*state, videos, is_real, keys)
  decoded, result = jax.jit(model.apply)(state[0], videos)
  decibels = -10 * np.log10(((decoded - videos) ** 2)[is_real].mean())
  print(f"{videos.shape} as tokens {result.codes.shape}: {decibels:.1f} dB")
  one = jax.jit(model.apply)(state[0], videos[0])[1].codes
  print(f"one alone has the same: {np.array_equal(one, result.codes[0])}")
  noisy = np.where(is_real[..., None, None, None], videos, 9.0)
  twice = [step(*state, x, is_real, keys) for x in (videos, noisy)]
  same = jax.tree.leaves(jax.tree.map(np.array_equal, *twice))
  print(f"a step is the same whatever padded frames hold: {all(same)}")


if __name__ == "__main__":
  run(steps=150)
