"""Networks that make the codewords of a stage from what is decoded so far.

Shapes: K codewords of width D, W the width of a network's layers, H its hidden
width, L its blocks.
"""

import abc
from collections.abc import Mapping
import dataclasses

import jax
import jax.numpy as jnp

from adq_jax import checks
from adq_jax import options
from adq_jax.initial import Initializer

Parameters = Mapping[str, jax.Array]

_MOST_BLOCKS = 256
_ZEROS = jax.nn.initializers.zeros


class AbstractImplicitNetwork(options.Option, abc.ABC):
  """What a slot `network` takes: a frozen dataclass.

  A network is applied in two steps, since a search tries all codewords on all
  points: `enter` sees the codewords alone, `finish` what is decoded so far.
  It starts as the identity of codewords.
  """

  @abc.abstractmethod
  def parameters(
    self, embedding_dim: int
  ) -> dict[str, tuple[tuple[int, ...], Initializer]]:
    """Returns the shape and the initializer of each parameter, by name.

    Args:
      embedding_dim: D.
    """

  @abc.abstractmethod
  def widest(self, embedding_dim: int) -> int:
    """Returns how many numbers of a codeword are in memory at once.

    Args:
      embedding_dim: D.
    """

  @abc.abstractmethod
  def enter(self, parameters: Parameters, codewords: jax.Array) -> jax.Array:
    """Returns what `finish` needs of codewords.

    Args:
      parameters: of one stage.
      codewords: as they are stored, float32 `[..., D]`.

    Returns:
      float32 `[..., W]`.
    """

  @abc.abstractmethod
  def finish(
    self,
    parameters: Parameters,
    codewords: jax.Array,
    entered: jax.Array,
    sums: jax.Array,
  ) -> jax.Array:
    """Returns what is added to what is decoded so far, float32 `[..., D]`.

    Args:
      parameters: of one stage.
      codewords: as they are stored, float32 `[..., D]`.
      entered: what `enter` makes of them, float32 `[..., W]`.
      sums: what is decoded so far, float32 `[..., D]`.  Axes of 1 are
        broadcast.
    """


@dataclasses.dataclass(frozen=True)
class QINCoNetwork(AbstractImplicitNetwork):
  """The network of Huijben et al., 2024, "Residual Quantization with Implicit
  Neural Codebooks".

  Of a codeword c and what is decoded so far, x, it makes y = c + W [c; x] + b,
  and then in each of L blocks y <- y + W2 relu(W1 y).

  It differs from the paper in how it starts: W, b and W2 are zero, so that the
  result is c.  W1 is uniform in +-1 / sqrt(D), as PyTorch has it.

  Attributes:
    num_blocks: L; 16 in the paper.
    hidden: H; 256 in the paper.

  Example:
    >>> from adq_jax import QINCo, QINCoNetwork
    >>> QINCo(8, 256, 128, network=QINCoNetwork(num_blocks=16)).network.hidden
    256
  """

  num_blocks: int = 2
  hidden: int = 256

  def check(self) -> None:
    """Raises a ValueError, "FIELD is X; it must be Y", if one does not fit."""
    _check_layers(self.num_blocks, self.hidden)

  def parameters(
    self, embedding_dim: int
  ) -> dict[str, tuple[tuple[int, ...], Initializer]]:
    """Returns those of the layers."""
    return _of_layers(
      embedding_dim, embedding_dim, self.num_blocks, self.hidden, _uniform(1)
    )

  def widest(self, embedding_dim: int) -> int:
    """Returns the largest width of a layer."""
    return max(embedding_dim, self.hidden)

  def enter(self, parameters: Parameters, codewords: jax.Array) -> jax.Array:
    """Returns the part of y that is of the codeword alone."""
    return _mixed(parameters, codewords)

  def finish(
    self,
    parameters: Parameters,
    codewords: jax.Array,
    entered: jax.Array,
    sums: jax.Array,
  ) -> jax.Array:
    """Returns y after the last block."""
    del codewords
    return _through_blocks(parameters, entered, sums)


@dataclasses.dataclass(frozen=True)
class QINCo2Network(AbstractImplicitNetwork):
  """The network of Vallaeys et al., 2025, "QINCo2: Vector Compression and
  Search with Improved Implicit Neural Codebooks".

  Its layers have a width of their own: y = V c + W [V c; x] + b, the blocks are
  those of `QINCoNetwork`, and the result is c + U y.

  It differs from the published code in how it starts.  There V and U are
  random, so that the first result is no c; where the width is D they are the
  identity, so that it is 2 c.  Here U is zero, so that it is c.  As there, W, b
  and W2 are zero.

  Attributes:
    num_blocks: L.
    width: W, the width of the layers.
    hidden: H.  The paper's sizes have L, W and H of 2, 128, 256 (S); 4, 384,
      384 (M); and 16, 384, 384 (L).

  Example:
    >>> from adq_jax import QINCo, QINCo2Network
    >>> QINCo(8, 256, 128, network=QINCo2Network(4, 384, 384)).network.width
    384
  """

  num_blocks: int = 2
  width: int = 128
  hidden: int = 256

  def check(self) -> None:
    """Raises a ValueError, "FIELD is X; it must be Y", if one does not fit."""
    _check_layers(self.num_blocks, self.hidden)
    checks.check_count("width", self.width)

  def parameters(
    self, embedding_dim: int
  ) -> dict[str, tuple[tuple[int, ...], Initializer]]:
    """Returns those of the layers, and of the projections around them."""
    kaiming = _uniform(6)
    layers = _of_layers(
      embedding_dim, self.width, self.num_blocks, self.hidden, kaiming
    )
    return layers | {
      "in": ((embedding_dim, self.width), kaiming),
      "out": ((self.width, embedding_dim), _ZEROS),
    }

  def widest(self, embedding_dim: int) -> int:
    """Returns the largest width of a layer."""
    return max(embedding_dim, self.width, self.hidden)

  def enter(self, parameters: Parameters, codewords: jax.Array) -> jax.Array:
    """Returns the part of y that is of the codeword alone."""
    return _mixed(parameters, _product(codewords, parameters["in"]))

  def finish(
    self,
    parameters: Parameters,
    codewords: jax.Array,
    entered: jax.Array,
    sums: jax.Array,
  ) -> jax.Array:
    """Returns the codeword, and what the layers make of it."""
    y = _through_blocks(parameters, entered, sums)
    return codewords + _product(y, parameters["out"])


def _check_layers(num_blocks: int, hidden: int) -> None:
  checks.check_count("num_blocks", num_blocks, 0, maximum=_MOST_BLOCKS)
  checks.check_count("hidden", hidden)


def _of_layers(
  embedding_dim: int,
  width: int,
  num_blocks: int,
  hidden: int,
  random: Initializer,
) -> dict[str, tuple[tuple[int, ...], Initializer]]:
  """Returns shapes and initializers of W, b, W1 and W2.

  Args:
    embedding_dim: D.
    width: W.
    num_blocks: L.
    hidden: H.
    random: of W1; the others are zero.
  """
  return {
    "mix": (
      (width + embedding_dim, width),
      _ZEROS,
    ),  # the codeword's rows first
    "bias": ((width,), _ZEROS),
    "up": ((num_blocks, width, hidden), random),
    "down": ((num_blocks, hidden, width), _ZEROS),
  }


def _uniform(gain: float) -> Initializer:
  """Returns that of kernels `[..., inputs, outputs]`, with no other axes in it.

  Args:
    gain: kernels are uniform in +-sqrt(gain / inputs): 1 is PyTorch's custom,
      and 6 that of He et al., 2015 (Kaiming).
  """

  def init(key: jax.Array, shape: tuple[int, ...], dtype=jnp.float32):
    bound = (gain / shape[-2]) ** 0.5
    return jax.random.uniform(key, shape, dtype, -bound, bound)

  return init


def _product(x: jax.Array, kernel: jax.Array) -> jax.Array:
  # Float32 in full: a TPU would round to bfloat16, and codes depend on it.
  return jax.lax.dot_general(
    x,
    kernel,
    (((x.ndim - 1,), (0,)), ((), ())),
    precision=jax.lax.Precision.HIGHEST,
  )


def _mixed(parameters: Parameters, entered: jax.Array) -> jax.Array:
  """Returns v + W [v; 0] + b for v float32 `[..., W]`."""
  of_codeword = parameters["mix"][: entered.shape[-1]]
  bias = parameters["bias"].reshape(*(1,) * (entered.ndim - 1), -1)
  return entered + (_product(entered, of_codeword) + bias)


def _through_blocks(
  parameters: Parameters, entered: jax.Array, sums: jax.Array
) -> jax.Array:
  """Returns y after all blocks, float32 `[..., W]`.

  Args:
    parameters: of one stage.
    entered: of `_mixed`, float32 `[..., W]`.
    sums: what is decoded so far, float32 `[..., D]`.
  """
  of_sums = parameters["mix"][entered.shape[-1] :]
  y = entered + _product(sums, of_sums)

  def block(y: jax.Array, kernels: tuple[jax.Array, jax.Array]):
    up, down = kernels
    return y + _product(jax.nn.relu(_product(y, up)), down), None

  return jax.lax.scan(block, y, (parameters["up"], parameters["down"]))[0]
