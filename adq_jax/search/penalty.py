"""What a search adds to squared distances.

Shapes: T points, N codewords, D their width, K prices of each point.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from adq_jax import checks


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Penalty:
  """The penalties of codewords, and the prices of points.

  To the squared distance of codeword n from point t a search adds the sum over
  k of `per_point[t, k] * per_codeword[n, k]`.

  Attributes:
    per_codeword: float32 `[N, K]`, finite, 0 or more.
    per_point: float32 `[T, K]`, finite, 0 or more.
  """

  per_codeword: jax.Array
  per_point: jax.Array

  def of_points(self, which: jax.Array) -> "Penalty":
    """Returns the penalty of some points, whose indices are clipped."""
    prices = self.per_point.at[which].get(mode="clip")
    return Penalty(self.per_codeword, prices)


def check_penalty(
  penalty: Any, price: Any, codewords: Any, shape: tuple[int, ...]
) -> None:
  """Raises a ValueError unless penalty and price are those of a search.

  Args:
    penalty: None, or floating `[N]` or `[K, N]`, 0 or more.
    price: None, or floating `[...]` for penalties `[N]` and `[..., K]` for
      penalties `[K, N]`, which need it; finite, 0 or more.
    codewords: `[N, D]`; not looked at where penalty is None.
    shape: the shape `[...]` of the points without their width.
  """
  if penalty is None:
    if price is not None:
      raise ValueError(
        "price is given without a penalty; it must be None, or the penalty an"
        " array"
      )
    return
  checks.check_floating("penalty", penalty, min_rank=1)
  if penalty.ndim > 2 or not penalty.size:
    raise ValueError(
      f"penalty has shape {penalty.shape}; it must be [N], or [K, N] with K of"
      " 1 or more"
    )
  why = "one for each codeword"
  checks.check_width("penalty", penalty, len(codewords), why)
  checks.check_not_negative("penalty", penalty)
  tables = penalty.shape[:-1]
  if price is not None:
    checks.check_floating("price", price)
    why = "one for each point" + (" and row of penalty" if tables else "")
    checks.check_shape("price", price, shape + tables, why)
    checks.check_not_negative("price", price, is_finite=True)
  elif tables:
    raise ValueError(
      f"price is None beside a penalty of shape {penalty.shape}; it must be"
      f" {shape + tables}, one for each point and row of penalty"
    )


@functools.partial(jax.jit, static_argnames="num_points")
def prepare_penalty(
  penalty: jax.Array,
  price: jax.Array | None,
  codewords: jax.Array,
  num_points: int,
) -> tuple[jax.Array, Penalty]:
  """Returns codewords and penalties whose sums are never NaN.

  A codeword with an infinite penalty becomes infinitely far.  So no product of
  zero and infinity arises.

  Args:
    penalty: floating `[N]` or `[K, N]`.  NaN is infinite, and what is negative
      is 0.
    price: floating, T of them, or T x K; None: all are 1.  What is negative is
      0, and NaN and infinity are the largest number.
    codewords: float32 `[N, D]`.
    num_points: T.
  """
  penalty = _without_nan(penalty).reshape(-1, len(codewords))
  is_finite = jnp.isfinite(penalty).all(axis=0)
  if price is None:
    price = jnp.ones(num_points, jnp.float32)
  price = jnp.minimum(_without_nan(price), jnp.finfo(jnp.float32).max)
  return jnp.where(is_finite[:, None], codewords, jnp.inf), Penalty(
    per_codeword=jnp.where(is_finite, penalty, 0.0).T,
    per_point=price.reshape(num_points, -1),
  )


def _without_nan(x: jax.Array) -> jax.Array:
  """Returns x in float32: infinity for NaN, and 0 for what is negative."""
  x = jax.lax.stop_gradient(x).astype(jnp.float32)
  return jnp.maximum(jnp.where(jnp.isnan(x), jnp.inf, x), 0.0)
