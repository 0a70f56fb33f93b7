"""Random arrays of a quantizer that stay as they are initialized.

They are in a collection of their own, which is neither of parameters nor of
moving averages: optimizers do not see it, and no call changes it.
"""

import flax.linen as nn
import jax.numpy as jnp

COLLECTION = "constants"


def make(
  module: nn.Module,
  name: str,
  initializer: nn.initializers.Initializer,
  shape: tuple[int, ...],
) -> nn.Variable:
  """Returns a constant of a module, float32, which `setup` makes.

  Args:
    module: whose constant it is.
    name: of the variable.
    initializer: which takes a key of the rng stream `"params"`.
    shape: of the array.
  """
  return module.variable(
    COLLECTION,
    name,
    lambda: initializer(module.make_rng("params"), shape, jnp.float32),
  )
