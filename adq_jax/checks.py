"""Checks of arguments, made before any of them reaches a computation.

Every check raises a ValueError of one line: the name of the argument, its
value, and what it must be.
"""

from collections.abc import Sequence
import numbers
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

AnyArray = jax.Array | np.ndarray
"""An array as users give it to functions, whose results are JAX's."""

_OF_MASKS = (jnp.bool_, jnp.integer, jnp.floating)


def check_floating(
  name: str, array: Any, *, rank: int | None = None, min_rank: int = 0
) -> None:
  """Raises a ValueError unless `array` is a floating array of that rank.

  Args:
    name: of the argument, for the message.
    array: anything.
    rank: the number of axes that it must have; None for any.
    min_rank: the smallest number of axes.
  """
  _check_array(name, array, jnp.floating, "a floating dtype")
  if rank is not None and array.ndim != rank:
    raise ValueError(
      f"{name} has shape {array.shape}; it must have {rank} axes"
    )
  if array.ndim < min_rank:
    axes = "axis" if min_rank == 1 else "axes"
    raise ValueError(
      f"{name} has shape {array.shape}; it must have at least {min_rank} {axes}"
    )


def check_integer(name: str, array: Any) -> None:
  """Raises a ValueError unless `array` is an integer array."""
  _check_array(name, array, jnp.integer, "an integer dtype")


def check_width(name: str, array: jax.Array, width: int, why: str) -> None:
  """Raises a ValueError unless the last axis of `array` is `width` long."""
  if array.shape[-1:] != (width,):
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


def check_mask(name: str, mask: Any, shape: tuple[int, ...], why: str) -> None:
  """Raises a ValueError unless `mask` has that shape and holds 0 and 1 alone.

  Tracers have no values, so under `jax.jit` the shape and dtype alone are
  checked.  The same holds for an array that other processes hold a part of.
  """
  _check_array(name, mask, _OF_MASKS, "real numbers or booleans")
  check_shape(name, mask, shape, why)
  values = _seen(mask)
  strange = values[(values != 0) & (values != 1)]
  if strange.size:
    raise ValueError(
      f"{name} has the value {strange.flat[0]}; it must be 1 for a real point"
      " and 0 for padding, for nothing is weighed: use mask > 0, say"
    )


def check_not_negative(
  name: str, array: Any, *, is_finite: bool = False
) -> None:
  """Raises a ValueError if an array has a number below 0, or NaN.

  Tracers, and arrays that other processes hold a part of, are not looked at.

  Args:
    name: of the argument, for the message.
    array: real numbers.
    is_finite: whether infinity is refused as well.
  """
  values = _seen(array)
  is_good = (values >= 0) & (np.isfinite(values) | (not is_finite))
  strange = values[~is_good]
  if strange.size:
    raise ValueError(
      f"{name} has the value {strange.flat[0]}; it must be"
      f" {'finite and ' if is_finite else ''}0 or more"
    )


def check_axis(
  name: str, axis_name: str | None, otherwise: str | None = None
) -> None:
  """Raises a ValueError unless this runs under the mapped axis; None passes.

  Args:
    name: of the argument, for the message.
    axis_name: the axis, or a tuple of axes.
    otherwise: what to do where no axis is to be mapped, for the message.
  """
  if axis_name is None:
    return
  try:
    jax.lax.axis_size(axis_name)
  except NameError as error:
    otherwise = otherwise or (
      f"without {name} on one device or where jax.jit spreads the batch"
    )
    raise ValueError(
      f"{name} is {axis_name!r}, which is no mapped axis here{_mesh_here()};"
      f" apply inside of jax.pmap(..., axis_name={axis_name!r}) or"
      f" jax.shard_map over it, or {otherwise}"
    ) from error


def check_axis_name(name: str, value: Any) -> None:
  """Raises a ValueError unless `value` may name a mapped axis, or is None."""
  names = value if isinstance(value, tuple) else (value,)
  is_name = names and all(isinstance(part, str) for part in names)
  if value is not None and not is_name:
    raise ValueError(
      f"{name} is {_described(value)}; it must be the name of a mapped axis, or"
      " None for one device"
    )


def check_bool(name: str, value: Any) -> None:
  """Raises a ValueError unless `value` is True or False, and not traced."""
  if not isinstance(value, (bool, np.bool_)):
    raise ValueError(
      f"{name} is {_described(value)}; it must be True or False, known before"
      " anything is traced (static_argnames of jax.jit)"
    )


def check_count(
  name: str,
  value: Any,
  minimum: int = 1,
  maximum: int | None = None,
  why: str = "",
) -> None:
  """Raises a ValueError unless `value` is an integer in a range.

  Args:
    name: of the argument, for the message.
    value: what should be one.
    minimum: the least.
    maximum: the largest; None: there is none.
    why: why it is, for the message.
  """
  is_integer = isinstance(value, numbers.Integral)
  if not is_integer or isinstance(value, bool) or value < minimum:
    raise ValueError(
      f"{name} is {_described(value)}; it must be an integer of at least"
      f" {minimum}"
    )
  if maximum is not None and value > maximum:
    reason = f", {why}" if why else ""
    raise ValueError(f"{name} is {value}; it must be at most {maximum}{reason}")


def as_pairs(name: str, value: Any) -> tuple[tuple[int, int], ...]:
  """Returns a sequence of pairs of positive integers as ((N, D), ...).

  Args:
    name: of the argument, for the message.
    value: sequences of any kind, such as lists.

  Raises:
    ValueError: if `value` is empty, or holds something else than pairs of
      positive integers.
  """
  is_nested = isinstance(value, Sequence) and all(
    isinstance(pair, Sequence) and len(pair) == 2 for pair in value
  )
  if not is_nested or isinstance(value, str):
    raise ValueError(
      f"{name} is {_described(value)}; it must hold pairs, ((N, D), ...)"
    )
  if not value:
    raise ValueError(f"{name} is empty; it needs a pair (N, D) or more")
  for i, pair in enumerate(value):
    for number in pair:
      check_count(f"{name}[{i}] is {tuple(pair)!r}, of which one", number)
  return tuple((int(n), int(d)) for n, d in value)


def check_choice(name: str, value: Any, choices: tuple[Any, ...]) -> None:
  """Raises a ValueError unless `value` is one of `choices`."""
  if value not in choices:
    raise ValueError(
      f"{name} is {value!r}; it must be one of {', '.join(map(repr, choices))}"
    )


def check_at_least(name: str, value: float, minimum: float) -> None:
  """Raises a ValueError unless `value` is a number of at least `minimum`."""
  is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
  if not (is_number and minimum <= value < float("inf")):
    raise ValueError(
      f"{name} is {_described(value)}; it must be at least {minimum}"
    )


def _check_array(name: str, array: Any, kinds: Any, wanted: str) -> None:
  dtype = getattr(array, "dtype", None)
  if dtype is None or not hasattr(array, "ndim"):
    raise ValueError(
      f"{name} is a {type(array).__name__}; it must be an array of {wanted}"
    )
  kinds = kinds if isinstance(kinds, tuple) else (kinds,)
  if not any(jnp.issubdtype(dtype, kind) for kind in kinds):
    raise ValueError(f"{name} has dtype {dtype}; it must have {wanted}")


def _mesh_here() -> str:
  """Returns the axes of the mesh that this runs on as text; none, nothing."""
  mesh = jax.sharding.get_abstract_mesh()
  axes = [
    f"{axis}={mesh.shape[axis]}"
    + (" mapped" if axis in mesh.manual_axes else "")
    for axis in mesh.axis_names
    if not axis.startswith("_")  # that of a jax.pmap without axis_name
  ]
  return f" (the mesh has {', '.join(axes)})" if axes else ""


def _seen(array: Any) -> np.ndarray:
  """Returns the values of an array; none where they are not known here."""
  is_seen = not isinstance(array, jax.core.Tracer)
  if is_seen and getattr(array, "is_fully_addressable", True):
    return np.asarray(array)
  return np.zeros(0)


def _described(value: Any) -> str:
  """Returns the value as text; for an array or a tracer what it is."""
  if isinstance(value, jax.core.Tracer):
    return "traced"
  if hasattr(value, "shape") and np.ndim(value):
    return f"an array of shape {np.shape(value)}"
  return f"{value!r:.200}"
