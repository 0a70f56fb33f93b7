"""The attention that chooses codebooks, and samples of what it says.

Shapes: C features of z, m codebooks.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from adq_jax import checks
from adq_jax import masks
from adq_jax.quantizers import estimators
from adq_jax.quantizers import examples


def check_heads(num_heads: int, features: int) -> None:
  """Raises a ValueError unless each head gets as many features."""
  if features % num_heads:
    raise ValueError(
      f"num_heads is {num_heads}; it must divide the {features} features of z"
    )


_INITS = {
  "lecun_normal": nn.initializers.lecun_normal(),
  # Glorot and Bengio's of one matrix for queries, keys and values: C inputs,
  # 3 C outputs, a variance of 2 / (C + 3 C).
  "pytorch": nn.initializers.variance_scaling(1 / 2, "fan_in", "uniform"),
}


def check_input_init(field: str, init: str) -> None:
  """Raises a ValueError unless projections of queries and keys can start so.

  Args:
    field: the name of the option.
    init: `"lecun_normal"`; or `"pytorch"`, uniform as in its
      MultiheadAttention.  Biases start as zeros in both.
  """
  checks.check_choice(field, init, tuple(_INITS))


class AttentionSelector(nn.Module):
  """Multi-head attention of points to one learned key for each codebook.

  There is no value path: only the weights are used.

  Attributes:
    num_codebooks: m.
    num_heads: heads, a divisor of C.
    input_init: how the projections of queries and keys start, as of
      `check_input_init`.
  """

  num_codebooks: int
  num_heads: int = 2
  input_init: str = "lecun_normal"

  @nn.compact
  def __call__(self, z: jax.Array) -> jax.Array:
    """Returns log pi, float32 `[..., m]`, of points z float32 `[..., C]`.

    pi is the mean over heads of softmax(q.k / sqrt(C / heads)).
    """
    features = z.shape[-1]
    check_heads(self.num_heads, features)
    head_dim = features // self.num_heads
    precision = jax.lax.Precision.HIGHEST
    codebook_keys = self.param(
      "codebook_keys",
      nn.initializers.normal(1.0),
      (self.num_codebooks, features),
      jnp.float32,
    )
    heads = (self.num_heads, head_dim)
    common = {"precision": precision, "kernel_init": _INITS[self.input_init]}
    query = nn.DenseGeneral(heads, name="query", **common)(z)
    key = nn.DenseGeneral(heads, name="key", **common)(codebook_keys)
    scores = jnp.einsum(
      "...hd,mhd->...hm", query, key, precision=precision
    ) / jnp.sqrt(jnp.float32(head_dim))
    log_weights = jax.nn.log_softmax(scores, axis=-1)
    return jax.nn.logsumexp(log_weights, axis=-2) - jnp.log(
      jnp.float32(self.num_heads)
    )


def gumbel_noise(
  key: jax.Array, shape: tuple[int, ...], example_index: jax.Array
) -> jax.Array:
  """Returns Gumbel noise that depends on the example, and not on its batch.

  Args:
    key: a PRNG key, the same for all examples.
    shape: `[B, ...]`, examples first.
    example_index: what tells examples apart, int `[B]`.

  Returns:
    float32 noise of that shape; a row depends on key and index alone.
  """
  keys = examples.keys_of(key, example_index)
  return jax.vmap(lambda key: jax.random.gumbel(key, shape[1:], jnp.float32))(
    keys
  )


def noise_of_examples(
  key: jax.Array,
  shape: tuple[int, ...],
  example_index: jax.Array | None,
  axis_name: str | None,
) -> jax.Array:
  """Returns Gumbel noise for the scores of a batch, float32 of their shape.

  Args:
    key: a PRNG key, the same on all devices.
    shape: `[B, ..., m]`, or `[m]` of one point.
    example_index: what tells examples apart, int `[B]`; None for their place in
      the batch of all devices.
    axis_name: the mapped axis over which this batch is spread.

  Raises:
    ValueError: if there is not an index for each example.
  """
  rows = shape if len(shape) > 1 else (1, *shape)
  example_index = examples.index_of(rows[0], example_index, axis_name)
  return gumbel_noise(key, rows, example_index).reshape(shape)


def noise_of_module(
  module: nn.Module,
  shape: tuple[int, ...],
  is_update: bool,
  draw: bool | jax.Array | None,
  example_index: jax.Array | None,
  axis_name: str | None,
) -> jax.Array | None:
  """Returns what is added to the scores of a quantizer; None: nothing.

  Args:
    module: the quantizer, whose rng stream `"gumbel"` it takes.
    shape: `[B, ..., m]`, or `[m]` of one point.
    is_update: whether it is for a step of training.
    draw: whether the choice is sampled; may be traced.  None: in training.
    example_index: as of `noise_of_examples`, as is `axis_name`.
    axis_name: the mapped axis.

  Raises:
    ValueError: if the choice is sampled, and the rng stream is missing.
  """
  key = examples.key_of_draw(module, is_update, draw, "a codebook")
  if key is None:
    return None
  noise = noise_of_examples(key, shape, example_index, axis_name)
  draw = True if draw is None else draw
  return jnp.where(draw, noise, jnp.zeros_like(noise))


def as_temperature(temperature: jax.Array | float) -> jax.Array:
  """Returns a temperature as float32 `[]`.

  Raises:
    ValueError: if it is no positive number, where that is seen.
  """
  checks.check_shape("temperature", temperature, (), "a single number")
  if not isinstance(temperature, jax.core.Tracer) and not temperature > 0:
    raise ValueError(f"temperature is {temperature}; it must be above 0")
  return jnp.asarray(temperature, jnp.float32)


def straight_through_choice(
  logits: jax.Array, temperature: jax.Array | float
) -> tuple[jax.Array, jax.Array]:
  """Chooses the largest logit, with the gradient of a softmax.

  With log pi + Gumbel noise for logits, the choice is a sample of pi whatever
  the temperature (Gumbel-Softmax, hard): the temperature shapes the gradient.

  Args:
    logits: float32 `[..., m]`.
    temperature: tau, above 0, a scalar.

  Returns:
    weights, float32 `[..., m]`: exactly one-hot, with the gradient of
    softmax(logits / tau); and the choice, int32 `[...]`.

  Raises:
    ValueError: if the temperature is no positive number, where that is seen.
  """
  temperature = as_temperature(temperature)
  choice = jnp.argmax(logits, axis=-1).astype(jnp.int32)
  one_hot = jax.nn.one_hot(choice, logits.shape[-1], dtype=jnp.float32)
  soft = jax.nn.softmax(logits / temperature, axis=-1)
  return estimators.straight_through(one_hot, soft), choice


def choice_entropy(
  logits: jax.Array,
  is_real: jax.Array | None = None,
  axis_name: str | None = None,
) -> jax.Array:
  """Returns how evenly points share the codebooks, before any is sampled.

  The entropy of the mean over points of pi = softmax(logits), in bits: 0 where
  all choose one codebook, log2 m where each is used as often.  A reward for
  it keeps the experts of a mixture in use (as in Shazeer et al., 2017, who
  measure evenness in another way).

  Args:
    logits: float32 `[..., m]`.
    is_real: which points count, bool `[...]`.
    axis_name: the mapped axis over which the points are spread.  The mean of
      its devices' results is the entropy over all points, and the mean of
      their gradients is its gradient.
  """
  num_codebooks = logits.shape[-1]
  pi = jax.nn.softmax(logits, axis=-1).reshape(-1, num_codebooks)
  is_real = masks.as_bool(is_real, logits.shape[:-1]).reshape(-1)
  shares = jax.vmap(lambda p: masks.mean(p, is_real, axis_name), 1)(pi)
  mean = jax.lax.stop_gradient(shares)
  if axis_name is not None:
    mean = jax.lax.pmean(mean, axis_name)
  # The derivative of -p log p is -log p, and a constant that cancels, since
  # shares add up to 1.  So only one factor needs it, and devices' add up.
  tiny = jnp.finfo(jnp.float32).tiny
  return -jnp.sum(shares * jnp.log2(jnp.maximum(mean, tiny)))
