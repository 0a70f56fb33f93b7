"""Initial values of convolutions and dense layers.

Flax and PyTorch have other customs, and a model that is trained for a short
time depends on them.  Flax: kernels normal with variance 1 / fan-in (LeCun),
biases zero.  PyTorch: both uniform in +-1 / sqrt(fan-in), so that kernels have
a third of that variance.
"""

import dataclasses

import jax
import jax.numpy as jnp

from adq_jax import checks
from adq_jax import options

Initializer = jax.nn.initializers.Initializer


@dataclasses.dataclass(frozen=True)
class InitialValues(options.Option):
  """Initial values of the convolutions of an encoder and a decoder.

  Attributes:
    kernel: of kernels: `"lecun_normal"` (LeCun et al., 1998, "Efficient
      BackProp"), as Flax has it; or `"pytorch"`.
    bias: of biases: `"zeros"`, as Flax has it; or `"pytorch"`.

  Example:
    >>> from adq_jax import InitialValues, VectorQuantizer, VQVAE
    >>> initial = InitialValues(kernel="pytorch", bias="pytorch")
    >>> VQVAE(VectorQuantizer(16, 8), features=8, initial=initial).initial.bias
    'pytorch'
  """

  kernel: str = "lecun_normal"
  bias: str = "zeros"

  def check(self) -> None:
    """Raises a ValueError, "FIELD is X; it must be Y", if one does not fit."""
    checks.check_choice("kernel", self.kernel, ("lecun_normal", "pytorch"))
    checks.check_choice("bias", self.bias, ("zeros", "pytorch"))

  def of_kernel(self, counted: str = "fan_in") -> Initializer:
    """Returns that of a kernel `[..., inputs, outputs]`.

    Args:
      counted: as of `pytorch_kernel`.
    """
    if self.kernel == "lecun_normal":
      return jax.nn.initializers.lecun_normal()
    return pytorch_kernel(counted)

  def of_bias(self, fan_in: int) -> Initializer:
    """Returns that of the bias beside a kernel.

    Args:
      fan_in: what PyTorch counts as the inputs of each output.
    """
    if self.bias == "zeros":
      return jax.nn.initializers.zeros
    return pytorch_bias(fan_in)


def pytorch_kernel(counted: str = "fan_in") -> Initializer:
  """Returns PyTorch's for a kernel `[..., inputs, outputs]`.

  Args:
    counted: what it takes for the inputs of each output: `"fan_in"`; or
      `"fan_out"`, the outputs, of a transposed convolution.
  """
  return jax.nn.initializers.variance_scaling(1 / 3, counted, "uniform")


def pytorch_bias(fan_in: int) -> Initializer:
  """Returns PyTorch's for a bias, uniform in +-1 / sqrt(fan_in)."""
  bound = fan_in**-0.5

  def init(key: jax.Array, shape: tuple[int, ...], dtype=jnp.float32):
    return jax.random.uniform(key, shape, dtype, -bound, bound)

  return init
