"""Checks of arguments, made before any of them reaches a computation."""

from typing import Any

import jax
import jax.numpy as jnp


def check_floating(
  name: str, array: Any, *, rank: int | None = None, min_rank: int = 0
) -> None:
  """Raises a ValueError unless `array` is a floating array of that rank."""
  _check_array(name, array, jnp.floating, "a floating dtype")
  if rank is not None and array.ndim != rank:
    raise ValueError(
      f"{name} has shape {array.shape}; it must have {rank} axes"
    )
  if array.ndim < min_rank:
    raise ValueError(
      f"{name} has shape {array.shape}; it must have at least"
      f" {min_rank} axis" + ("es" if min_rank > 1 else "")
    )


def check_integer(name: str, array: Any) -> None:
  """Raises a ValueError unless `array` is an integer array."""
  _check_array(name, array, jnp.integer, "an integer dtype")


def check_width(name: str, array: jax.Array, width: int, why: str) -> None:
  """Raises a ValueError unless the last axis of `array` is `width` long."""
  if array.shape[-1] != width:
    raise ValueError(
      f"{name} has shape {array.shape}; its last axis must be {width}, {why}"
    )


def check_shape(
  name: str, array: Any, shape: tuple[int, ...], why: str
) -> None:
  """Raises a ValueError unless `array` has exactly that shape."""
  if jnp.shape(array) != shape:
    raise ValueError(
      f"{name} has shape {jnp.shape(array)}; it must be {shape}, {why}"
    )


def check_choice(name: str, value: Any, choices: tuple[Any, ...]) -> None:
  """Raises a ValueError unless `value` is one of `choices`."""
  if value not in choices:
    raise ValueError(
      f"{name} is {value!r}; it must be one of {', '.join(map(repr, choices))}"
    )


def check_at_least(name: str, value: float, minimum: float) -> None:
  """Raises a ValueError unless `value` is a number of at least `minimum`."""
  if not value >= minimum:
    raise ValueError(f"{name} is {value}; it must be at least {minimum}")


def _check_array(name: str, array: Any, kind: Any, wanted: str) -> None:
  dtype = getattr(array, "dtype", None)
  if dtype is None or not hasattr(array, "ndim"):
    raise ValueError(
      f"{name} is a {type(array).__name__}; it must be an array of {wanted}"
    )
  if not jnp.issubdtype(dtype, kind):
    raise ValueError(f"{name} has dtype {dtype}; it must have {wanted}")
