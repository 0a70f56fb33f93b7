"""A small quantizer under test, with what is compiled of it, once."""

import collections
import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from adq_jax import Quantizer
from tests.support.small import make_variables
from tests.support.small import RNGS
from tests.support.small import train

GRID = (8, 4, 4)
STATE = nn.DenyList("params")  # every collection that training may change


@dataclasses.dataclass(frozen=True)
class Case:
  """A small instance of a quantizer.

  Attributes:
    quantizer: the instance, with `axis_name=None`.
    width: C, of the z that it takes.
  """

  quantizer: Quantizer
  width: int = 4


class Subject:
  """A case with points `[8, 4, 4, C]`, and programs that tests share.

  Attributes:
    quantizer: the case's.
    z: the points.
    weights: of the values in the loss of `step`, shape of z.
    mask: bool `[8, 4, 4]`; three whole images are padding.
    real: the places of the others.
    traces: how often `step` was traced for a shape.
    variables: what `init` makes.
  """

  def __init__(self, case: Case):
    self.quantizer = case.quantizer
    shape = (*GRID, case.width)
    self.z = jax.random.normal(jax.random.key(5), shape, jnp.float32)
    self.weights = jax.random.normal(jax.random.key(6), shape, jnp.float32)
    self.real = np.array([0, 2, 3, 4, 7])
    self.mask = jnp.zeros(GRID, bool).at[self.real].set(True)
    self.traces = collections.Counter()
    self.variables = make_variables(self.quantizer, self.z)

  def state(self, variables: Any = None) -> dict[str, Any]:
    """What training may change of variables; by default of the first."""
    variables = self.variables if variables is None else variables
    return {name: x for name, x in variables.items() if name != "params"}

  @functools.cached_property
  def step(self):
    """(variables, z, mask, weights, example_index) -> as `small.train`."""

    @jax.jit
    def step(variables, z, mask, weights, example_index):
      self.traces[z.shape] += 1
      return train(self.quantizer, variables, z, mask, weights, example_index)

    return step

  def trained(self, z: Any, mask: Any = None, variables: Any = None) -> Any:
    """A step with z of the usual shape; by default nothing is padding."""
    return self.step(
      self.variables if variables is None else variables,
      z,
      jnp.ones(GRID, bool) if mask is None else mask,
      self.weights,
      jnp.arange(len(z), dtype=jnp.int32),
    )

  @functools.cached_property
  def stacked(self) -> np.ndarray:
    """Two batches, of which one has a point of no value."""
    stacked = np.stack([self.z, -self.z])
    stacked[1, 2, 1, 3] = np.nan
    return stacked

  @functools.cached_property
  def padded(self) -> Any:
    """What a step makes of the points, with zeros for padding."""
    return self.trained(self.with_padding(0.0), self.mask)

  @functools.cached_property
  def changed(self) -> list[str]:
    """The collections that a step changes; constants are in others."""
    *_, after = self.trained(self.z)

    def is_same(a, b) -> bool:
      return all(jax.tree.leaves(jax.tree.map(np.array_equal, a, b)))

    return [
      name for name, x in self.state().items() if not is_same(x, after[name])
    ]

  def with_padding(self, value: float) -> jax.Array:
    return jnp.where(self.mask[..., None], self.z, value)

  def trace_step(self, z: Any, mutable: Any = STATE, rngs: Any = RNGS) -> Any:
    """Shapes and dtypes of a training step; nothing is computed."""
    return jax.eval_shape(
      lambda v, z: self.quantizer.apply(
        v, z, train=True, mutable=mutable, rngs=rngs
      ),
      self.variables,
      z,
    )

  @functools.cached_property
  def missed(self) -> dict[str, str]:
    """What a training step says without each rng stream that it needs."""
    found = {}
    for name in RNGS:
      others = {other: key for other, key in RNGS.items() if other != name}
      try:
        self.trace_step(self.z, rngs=others)
      except ValueError as error:
        found[name] = str(error)
    return found

  @functools.cached_property
  def evaluate(self):
    """(variables, z) -> the result, and the collections after."""
    return jax.jit(lambda v, z: self.quantizer.apply(v, z, mutable=STATE))

  @functools.cached_property
  def encode(self):
    return jax.jit(lambda v, z: self.quantizer.apply(v, z, method="encode"))

  @functools.cached_property
  def decode(self):
    return jax.jit(lambda v, c: self.quantizer.apply(v, c, method="decode"))
