"""Quantizers of fixed vectors, without an encoder: as for vector search.

Shapes: T vectors of width D.
"""

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from adq_jax import Placement
from adq_jax import QINCo
from adq_jax import qinco_from_residual
from adq_jax import Quantizer
from adq_jax import ResidualQuantizer

_CLIP = 0.1  # of each number of a gradient, as QINCo2's code has it
_MOST_CLUSTERED = 65_536  # vectors that k-means sees
_AT_ONCE = 16_384  # vectors that are encoded together


@dataclasses.dataclass(frozen=True)
class Trained:
  """A quantizer that was trained on vectors, with the scale of these.

  Attributes:
    quantizer: of scaled vectors.
    variables: of the quantizer.
    mean: of the vectors it was trained on, float64 `[D]`.
    deviation: the standard deviation about it, one for all dimensions.
  """

  quantizer: Quantizer
  variables: Mapping[str, Any]
  mean: np.ndarray
  deviation: float

  @property
  def bits(self) -> float:
    """The bits of a vector's codes."""
    return sum(math.log2(s.alphabet) for s in self.quantizer.streams)

  def scaled(self, vectors: np.ndarray) -> np.ndarray:
    """Returns vectors as the quantizer takes them, float32 `[T, D]`."""
    return ((vectors - self.mean) / self.deviation).astype(np.float32)

  def decoded(self, vectors: np.ndarray) -> np.ndarray:
    """Returns what the codes of vectors decode to, float32 `[T, D]`."""

    @jax.jit
    def values(variables, z):
      return self.quantizer.apply(variables, z).values

    z = self.scaled(vectors)
    parts = [
      np.asarray(values(self.variables, z[start : start + _AT_ONCE]))
      for start in range(0, len(z), _AT_ONCE)
    ]
    decoded = np.concatenate(parts) * self.deviation + self.mean
    return decoded.astype(np.float32)


def train_residual(
  vectors: np.ndarray, num_stages: int, codebook_size: int, seed: int
) -> Trained:
  """Returns a residual quantizer whose stages are made by k-means, in order.

  Args:
    vectors: float32 `[T, D]`.
    num_stages: S.
    codebook_size: N.
    seed: of all that is random.
  """
  quantizer = ResidualQuantizer(
    num_stages,
    codebook_size,
    vectors.shape[1],
    placement=Placement("kmeans", kmeans_iterations=25),
  )
  mean = vectors.mean(axis=0, dtype=np.float64)
  deviation = float(np.square(vectors - mean).mean() ** 0.5)
  # Vectors that are all the same have none.
  trained = Trained(quantizer, {}, mean, deviation or 1.0)
  rng = np.random.default_rng(seed)
  which = rng.permutation(len(vectors))[:_MOST_CLUSTERED]

  @jax.jit
  def cluster(z):
    variables = quantizer.init(jax.random.key(seed), z)
    _, state = quantizer.apply(
      variables,
      z,
      train=True,
      mutable=["codebook"],
      rngs={"codebook": jax.random.key(seed)},
    )
    return {**variables, **state}

  variables = cluster(trained.scaled(vectors[np.sort(which)]))
  return dataclasses.replace(trained, variables=variables)


def train_qinco(
  quantizer: QINCo,
  residual: Trained,
  vectors: np.ndarray,
  *,
  epochs: int,
  batch_size: int,
  learning_rate: float,
  seed: int,
  report: Callable[[int, float], None],
) -> Trained:
  """Returns a QINCo that starts as a residual quantizer, trained on vectors.

  Adam, with a learning rate that falls to zero along a cosine.  The vectors are
  on the device as a whole.

  Args:
    quantizer: what to train.  At the end of each epoch but the last it replaces
      codewords that no vector took, whatever its `replace_every`.
    residual: what it starts as.
    vectors: float32 `[T, D]`.
    epochs: how often each vector is seen, but for those that fill no batch.
    batch_size: the number of vectors in a batch, at most T.
    learning_rate: of the first step.
    seed: of all that is random.
    report: called after each epoch, with its number from 1 and its mean loss.
  """
  num_batches = len(vectors) // batch_size
  quantizer = quantizer.clone(replace_every=num_batches)
  # Nothing would train what the last epoch replaces.
  in_last_epoch = quantizer.clone(replace_every=epochs * num_batches + 1)
  key = jax.random.key(seed)
  variables = qinco_from_residual(
    key, quantizer, residual.quantizer, residual.variables
  )
  schedule = optax.cosine_decay_schedule(learning_rate, epochs * num_batches)
  optimizer = optax.chain(optax.clip(_CLIP), optax.adam(schedule))

  def step(quantizer, carry, batch):
    variables, moments = carry
    z, key = batch

    def loss_of(params):
      result, state = quantizer.apply(
        {**variables, "params": params},
        z,
        train=True,
        mutable=["codebook"],
        rngs={"codebook": key},
      )
      return result.loss, state

    (loss, state), gradient = jax.value_and_grad(loss_of, has_aux=True)(
      variables["params"]
    )
    changes, moments = optimizer.update(gradient, moments)
    params = optax.apply_updates(variables["params"], changes)
    return ({**variables, **state, "params": params}, moments), loss

  @functools.partial(jax.jit, static_argnums=0)
  def run_epoch(quantizer, carry, points, order, key):
    batches = order.reshape(num_batches, batch_size)
    keys = jax.random.split(key, num_batches)
    return jax.lax.scan(
      lambda carry, batch: step(quantizer, carry, (points[batch[0]], batch[1])),
      carry,
      (batches, keys),
    )

  points = jnp.asarray(residual.scaled(vectors))
  carry = variables, optimizer.init(variables["params"])
  rng = np.random.default_rng(seed)
  for epoch in range(1, epochs + 1):
    order = rng.permutation(len(vectors))[: num_batches * batch_size]
    epoch_key = jax.random.fold_in(key, epoch)
    carry, losses = run_epoch(
      in_last_epoch if epoch == epochs else quantizer,
      carry,
      points,
      order.astype(np.int32),
      epoch_key,
    )
    report(epoch, float(losses.mean()))
  return dataclasses.replace(residual, quantizer=quantizer, variables=carry[0])
