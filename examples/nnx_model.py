"""Trains an autoencoder of NNX, saves it with Orbax, and restores it."""

import pathlib
import tempfile

from flax import nnx
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
from sklearn import datasets

from adq_jax import Placement
from adq_jax import VectorQuantizer
from adq_jax.nnx import Stateful


class Autoencoder(nnx.Module):
  """Images [B, 8, 8, 1] as 16 tokens each."""

  def __init__(self, *, rngs: nnx.Rngs):
    size = {"kernel_size": (2, 2), "strides": (2, 2), "rngs": rngs}
    self.encoder = nnx.Conv(1, 8, **size)
    # Stateful makes an NNX module of a quantizer, which is one of Linen.
    quantizer = VectorQuantizer(64, 8, placement=Placement("data", 0.1))
    self.quantizer = Stateful(quantizer, rngs=rngs)
    self.decoder = nnx.ConvTranspose(8, 1, **size)

  def __call__(self, images):
    result = self.quantizer(self.encoder(images))
    return self.decoder(result.values), result


@nnx.jit
def train_step(model, optimizer, images):
  def loss_of(model):
    decoded, result = model(images)  # this moves the codewords
    return jnp.mean((decoded - images) ** 2) + result.loss

  optimizer.update(model, nnx.grad(loss_of)(model))


@nnx.jit
def evaluate(model, images):
  decoded, result = model(images)
  return jnp.mean((decoded - images) ** 2), result.codes


def run(steps: int) -> None:
  """Trains on handwritten digits, and compares the model that is restored."""
  digits = datasets.load_digits().images[..., None].astype(np.float32) / 16
  train, validation = digits[:1500], digits[1500:]
  model = Autoencoder(rngs=nnx.Rngs(0))
  # The optimizer sees parameters alone; codewords are no nnx.Param.
  optimizer = nnx.Optimizer(model, optax.adam(3e-3), wrt=nnx.Param)
  rng = np.random.default_rng(0)
  for _ in range(steps):
    train_step(model, optimizer, train[rng.integers(0, len(train), 64)])
  model.eval()  # from here on calls leave the codewords as they are
  error, codes = evaluate(model, validation)
  used = len(np.unique(codes))
  print(f"mean squared error {error:.4f}, with {used} of 64 codewords")

  with tempfile.TemporaryDirectory() as folder:
    with ocp.StandardCheckpointer() as checkpointer:
      path = pathlib.Path(folder) / "model"
      checkpointer.save(path, nnx.state(model))
      checkpointer.wait_until_finished()
      # A model of shapes alone says what there is to read.
      shapes = nnx.eval_shape(lambda: Autoencoder(rngs=nnx.Rngs(0)))
      graph, state = nnx.split(shapes)
      restored = nnx.merge(graph, checkpointer.restore(path, state))
  restored.eval()  # modules begin in training
  same = np.array_equal(evaluate(restored, validation)[1], codes)
  print(f"the restored model gives the same codes: {same}")


if __name__ == "__main__":
  run(steps=300)
