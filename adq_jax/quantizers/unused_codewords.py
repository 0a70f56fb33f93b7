"""Codewords that are parameters, replaced where no point uses them.

Shapes: S stages, K codewords of width D in each, T points.
"""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from adq_jax import masks
from adq_jax.codebook.state import check_dtypes
from adq_jax.quantizers.collection import COLLECTION

_MOMENTUM = 0.1  # of the running moments, in both papers' code


class UnusedCodewords:
  """What a module's stages have seen, and by how much codewords are displaced.

  A step of training cannot set a parameter, which an optimizer owns.  So a
  codeword is the sum of a parameter and of a displacement in the collection
  `"codebook"`, which a replacement changes.

  Every so many updates, each codeword that no point took since the last time
  becomes a sample of uniform noise with the running mean and standard deviation
  of what its stage quantizes, in each dimension.
  """

  def __init__(
    self,
    module: nn.Module,
    every: int,
    parameters: Mapping[str, jax.Array],
  ):
    """Makes the variables in the module's `setup`, where there are none yet.

    Args:
      module: whose variables they are.
      every: the number of updates from one replacement to the next.
      parameters: by name float32 `[S, K, D]`, of which there is one called
        `"embedding"`; or `[S - 1, K, D]`, without the first stage.
    """
    self._scope = module.scope  # not the module, which refers to this
    self._every = every
    num_stages, size, dim = parameters["embedding"].shape
    shapes = {
      "counts": (num_stages, size),
      "mean": (num_stages, dim),
      "variance": (num_stages, dim),
    }
    shapes |= {_displaced(name): x.shape for name, x in parameters.items()}
    self._variables = {
      name: module.variable(COLLECTION, name, jnp.zeros, shape, jnp.float32)
      for name, shape in shapes.items()
    }
    self._variables["num_updates"] = module.variable(
      COLLECTION, "num_updates", jnp.zeros, (), jnp.int32
    )

  def displaced(self, name: str, parameter: jax.Array) -> jax.Array:
    """Returns the codewords of a parameter."""
    return parameter + self._variables[_displaced(name)].value

  def check_can_change(self) -> None:
    """Raises a ValueError if training cannot change the variables."""
    if not self._scope.is_mutable_collection(COLLECTION):
      raise ValueError(
        f'train=True updates the collection "{COLLECTION}", which is not'
        f' mutable; apply with mutable=["{COLLECTION}"]'
      )
    check_dtypes({name: x.value for name, x in self._variables.items()})
    if not self._scope.has_rng(COLLECTION):
      raise ValueError(
        f"replace_every is {self._every}, which samples codewords in training,"
        f' but the rng stream "{COLLECTION}" is missing; apply with'
        f' rngs={{"{COLLECTION}": key}}, the same key on all devices'
      )

  def update(
    self,
    parameters: Mapping[str, jax.Array],
    counts: jax.Array,
    left: jax.Array,
    is_real: jax.Array,
    axis_name: str | None,
  ) -> None:
    """Takes a batch into account, and replaces codewords if it is time.

    Args:
      parameters: as in the constructor.
      counts: how many points of all devices use each codeword, float32
        `[S, K]`.
      left: what each stage quantizes, float32 `[S, T, D]`.
      is_real: which points count, bool `[T]`.
      axis_name: the mapped axis over which they are spread.
    """
    old = {name: x.value for name, x in self._variables.items()}
    mean, variance, is_any = _moments(
      jax.lax.stop_gradient(left), is_real, axis_name
    )
    # A batch of padding alone is none.
    num_updates = old["num_updates"] + is_any.astype(jnp.int32)
    # The first batches count alike, as there is nothing before them.
    count = jnp.maximum(num_updates, 1).astype(jnp.float32)
    weight = jnp.where(is_any, jnp.maximum(_MOMENTUM, 1 / count), 0.0)
    new = {
      "num_updates": num_updates,
      "mean": old["mean"] + weight * (mean - old["mean"]),
      "variance": old["variance"] + weight * (variance - old["variance"]),
    }
    counts += old["counts"]
    is_time = is_any & (num_updates % self._every == 0)
    new["counts"] = jnp.where(is_time, 0.0, counts)
    is_replaced = (is_time & (counts == 0))[..., None]
    uniform = jax.random.uniform(
      self._scope.make_rng(COLLECTION),
      parameters["embedding"].shape,
      jnp.float32,
      -(3**0.5),
      3**0.5,
    )
    noise = jnp.sqrt(new["variance"])[:, None] * uniform + new["mean"][:, None]
    for name, parameter in parameters.items():
      last = len(noise) - len(parameter)
      new[_displaced(name)] = jnp.where(
        is_replaced[last:],
        noise[last:] - jax.lax.stop_gradient(parameter),
        old[_displaced(name)],
      )
    for name, variable in self._variables.items():
      variable.value = new[name]


def _displaced(name: str) -> str:
  return f"{name}_displacement"


def _moments(
  left: jax.Array, is_real: jax.Array, axis_name: str | None
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Returns mean and variance `[S, D]` over points, and if there is one."""
  num_real = masks.count(is_real, axis_name)

  def mean(x: jax.Array) -> jax.Array:
    total = jnp.where(is_real[None, :, None], x, 0.0).sum(axis=1)
    if axis_name is not None:
      total = jax.lax.psum(total, axis_name)
    return total / jnp.maximum(num_real, 1.0)

  center = mean(left)
  return center, mean(jnp.square(left - center[:, None])), num_real > 0
