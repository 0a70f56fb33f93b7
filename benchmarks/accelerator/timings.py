"""Times of a device: the search of the pool, a training step, encoding.

The programs of a row are called in turn, and their medians are compared.  A
time is that of a call, from the host, until its result is ready.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
import functools
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import timing
from benchmarks.accelerator import search
from benchmarks.accelerator import steps
from benchmarks.accelerator.rows import MEASURED
from benchmarks.accelerator.rows import Row
from experiments.data import augment
from tests.support.search import make_data

_POINTS = 16_384  # 64 images of 64 x 64, at a fourth of the side
_ROUNDS = 3
_METHODS = ("auto", "blocked", "pallas")
_DATASET = "fashion_mnist"
_VARIANTS = (None, "priced_3x256x32")  # the paper's, and one with a price


def rows(device: jax.Device, *, is_small: bool) -> Iterator[Row]:
  """Yields rows that hold for themselves, with times.

  Args:
    device: computes.
    is_small: whether to time little programs.
  """
  for structure in search.pool(is_small):
    yield Row(
      f"time of a search [{structure[0]},{structure[1]}]",
      functools.partial(time_search, device, structure, is_small=is_small),
      MEASURED,
    )
  for name, function in (("a step", time_steps), ("encoding", time_encoding)):
    yield Row(
      f"time of {name}",
      functools.partial(function, device, is_small=is_small),
      MEASURED,
    )


def time_search(
  device: jax.Device, structure: tuple[int, int], *, is_small: bool
) -> str:
  """Returns the times of searches, and of a plain argmin of products.

  Args:
    device: searches.
    structure: N and D.
    is_small: whether there are few points.
  """
  num_points = 16 if is_small else _POINTS
  arguments = jax.device_put(make_data(num_points, *structure), device)
  searches = {method: search.search_by(method) for method in _METHODS}
  searches["plain argmin"] = jax.jit(_plain_argmin)
  return f"{num_points} points: " + _milliseconds(
    {
      name: functools.partial(_call, function, *arguments)
      for name, function in searches.items()
    },
    is_small,
  )


def _plain_argmin(z: jax.Array, codebook: jax.Array) -> jax.Array:
  squares = jnp.square(codebook).sum(axis=1)
  return jnp.argmin(squares - 2 * z @ codebook.T, axis=1)


def time_steps(device: jax.Device, *, is_small: bool) -> str:
  """Returns the times of training steps, in default precision.

  Args:
    device: takes the steps.
    is_small: whether to take the first config alone, and tiny.
  """
  experiments = [
    steps.experiment(_DATASET, variant, is_small=is_small)
    for variant in (_VARIANTS[:1] if is_small else _VARIANTS)
  ]
  return f"{len(experiments[0].images)} images of {_DATASET}: " + _milliseconds(
    {one.config.variant: one.run(device) for one in experiments},
    is_small,
  )


def time_encoding(device: jax.Device, *, is_small: bool) -> str:
  """Returns the times of encoding and decoding with the adaptive model.

  Args:
    device: computes.
    is_small: whether the model is tiny.
  """
  one = steps.experiment(_DATASET, None, is_small=is_small)
  variables, images = jax.device_put(
    (one.state.variables, augment.to_float(one.images)), device
  )
  encode, decode = (
    jax.jit(functools.partial(one.model.apply, method=method))
    for method in ("encode", "decode")
  )
  codes = encode(variables, images)
  return f"{len(images)} images of {_DATASET}: " + _milliseconds(
    {
      "encode": functools.partial(_call, encode, variables, images),
      "decode": functools.partial(_call, decode, variables, codes),
    },
    is_small,
  )


def _call(function: Callable[..., Any], *arguments: Any) -> None:
  jax.block_until_ready(function(*arguments))


def _milliseconds(
  programs: Mapping[str, Callable[[], Any]], is_small: bool
) -> str:
  for program in programs.values():
    program()  # compiles
  seconds = timing.medians(timing.in_turn(programs, 1 if is_small else _ROUNDS))
  return ", ".join(f"{name} {1e3 * x:.2f} ms" for name, x in seconds.items())
