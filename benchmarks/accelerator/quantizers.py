"""Every quantizer on a device against the same in float64 on the host.

A device rounds.  So a code of the device is right if float64 finds it too when
points and variables move by rounding, or if it has float64's value: stages that
share a codebook have the same sum in any order.
"""

from collections.abc import Callable
from collections.abc import Iterator
import functools
from typing import Any

import chex
import jax
import numpy as np

from benchmarks.accelerator.float64 import in_float64
from benchmarks.accelerator.rows import Row
from tests.support.cases import CASES
from tests.support.small import bits
from tests.support.subject import Subject

_OFFSET = 100  # of points and codewords
_ROUNDING = 2.0**-21  # of numbers: eight float32 epsilons of 2^-24
_MOVES = 64  # random ones; one of them finds out what rounding decides
_NEAR = {"rtol": 1e-5, "atol": 1e-6}  # values
_SLACK = 2  # times what they change of a training step


def rows(
  device: jax.Device, host: jax.Device, *, is_small: bool
) -> Iterator[Row]:
  """Yields a row for each quantizer of the contract.

  Args:
    device: quantizes.
    host: the CPU that computes in float64.
    is_small: whether to take one quantizer of each class alone.
  """
  names = list(CASES)
  if is_small:
    names = {type(CASES[name].quantizer): name for name in names}.values()
  for name in names:
    yield Row(
      f"quantizer `{name}`",
      functools.partial(check_quantizer, device, host, name),
    )


def check_quantizer(device: jax.Device, host: jax.Device, name: str) -> str:
  """Checks codes, values and a training step of a quantizer.

  Args:
    device: quantizes.
    host: the CPU that computes in float64.
    name: a key of `CASES`.

  Returns:
    How many codes differ from float64's.

  Raises:
    AssertionError: if codes do not decode to the device's values, to the bit;
      if a code differs by more than rounding, or where ties are exact; or if
      values, gradients or the next state differ by more than rounding.
  """
  with jax.default_device(host):
    subject = Subject(CASES[name])
    exact = in_float64(lambda v, z: subject.evaluate(v, z)[0])
    differing = total = 0
    for what, z, variables in _inputs(subject, host):
      try:
        differs = _check_codes(subject, exact, device, what, z, variables)
      except AssertionError as error:
        raise AssertionError(f"{what}: {error}") from error
      differing += sum(x.sum() for x in jax.tree.leaves(differs))
      total += sum(x.size for x in jax.tree.leaves(differs))
    _check_training(subject, device, host)
  return f"{differing} of {total} codes differ"


def _check_codes(
  subject: Subject,
  exact: Callable[..., Any],
  device: jax.Device,
  what: str,
  z: np.ndarray,
  variables: Any,
) -> Any:
  """Returns where codes differ from float64's, after a check that they may."""
  codes, values = _evaluated(subject, device, variables, z)
  expected = exact(variables, z)
  differs = _different(codes, expected.codes)
  if what == "ties":  # the lowest index wins, which moves would change
    allowed = jax.tree.map(np.zeros_like, differs)
  else:
    allowed = _undecided(exact, variables, z, expected.codes)
    if not subject.quantizer.spatial_axes:  # a value is of its codes alone
      allowed = _or(allowed, np.isclose(values, expected.values, **_NEAR))
  _check_allowed(differs, allowed)
  # Of the same codes.
  arguments = jax.device_put((variables, expected.codes), device)
  decoded = jax.device_get(subject.decode(*arguments))
  np.testing.assert_allclose(decoded, expected.values, **_NEAR)
  return differs


def _inputs(
  subject: Subject, host: jax.Device
) -> Iterator[tuple[str, Any, Any]]:
  """Yields points and variables by what they may trouble."""
  z, variables = jax.device_get((subject.z, subject.variables))
  yield "untrained", z, variables
  arguments = jax.device_put((z, subject.mask, variables), host)
  *_, trained = jax.device_get(subject.trained(*arguments))
  yield "trained", z, trained
  # Multiples of a half, whose squared distances are exact, and ties many.
  yield (
    "ties",
    np.round(2 * z) / 2,
    _with_codewords(variables, lambda x: np.round(2 * x) / 2),
  )
  offset = np.float32(_OFFSET)
  yield "offset", z + offset, _with_codewords(variables, lambda x: x + offset)
  broken = z.copy()
  broken[0, 0, 0], broken[2, 1, 0, 0], broken[2, 2, 2] = np.nan, np.inf, -np.inf
  broken[0, 3, 3] = 1e38
  yield "not finite", broken, trained


def _with_codewords(variables: Any, change: Callable[..., Any]) -> Any:
  """Returns variables whose codewords are changed."""

  def changed(path: tuple[Any, ...], x: np.ndarray) -> np.ndarray:
    is_embedding = jax.tree_util.keystr(path[-1:]) == "['embedding']"
    return change(x) if is_embedding else x

  return jax.tree_util.tree_map_with_path(changed, variables)


def _evaluated(
  subject: Subject, device: jax.Device, variables: Any, z: np.ndarray
) -> tuple[Any, np.ndarray]:
  """Returns codes and values, after a check that one decodes to the other."""
  variables, z = jax.device_put((variables, z), device)
  result, _ = subject.evaluate(variables, z)
  codes = subject.encode(variables, z)
  chex.assert_trees_all_equal(*jax.device_get((codes, result.codes)))
  decoded = subject.decode(variables, codes)
  chex.assert_trees_all_equal(*map(bits, (decoded, result.values)))
  return jax.device_get((codes, result.values))


def _different(some: Any, others: Any) -> Any:
  return jax.tree.map(np.not_equal, some, others)


def _undecided(
  exact: Callable[..., Any], variables: Any, z: np.ndarray, codes: Any
) -> Any:
  """Returns where float64's codes change, when floats move by rounding."""
  found = jax.tree.map(lambda x: np.zeros(x.shape, bool), codes)
  for moved in _moves((variables, z)):
    differs = _different(exact(*moved).codes, codes)
    found = jax.tree.map(np.logical_or, found, differs)
  return found


def _or(differs: Any, is_near: np.ndarray) -> Any:
  """Adds the positions of codes at which all features are near."""
  alike = is_near.all(axis=-1)
  return jax.tree.map(lambda x: (x.T | alike.T).T, differs)


def _moves(tree: Any) -> Iterator[Any]:
  """Yields a tree whose floats are moved at random, by rounding."""
  rng = np.random.default_rng(0)

  def move(x: np.ndarray) -> np.ndarray:
    if x.dtype != np.float32:
      return x
    return x * (1 + _ROUNDING * rng.normal(size=x.shape)).astype(np.float32)

  for _ in range(_MOVES):
    yield jax.tree.map(move, tree)


def _check_allowed(differs: Any, allowed: Any) -> None:
  for one, is_allowed in zip(
    *map(jax.tree.leaves, (differs, allowed)), strict=True
  ):
    count = (one & ~is_allowed).sum()
    assert not count, f"{count} of {one.size} codes differ"


def _check_training(
  subject: Subject, device: jax.Device, host: jax.Device
) -> None:
  """Checks a training step with padding and a point of NaN.

  It may differ from float64 by what moves change, and float32 on the host.
  """
  z = np.array(subject.z)
  z[0, 2, 1, 1] = np.nan
  exact = in_float64(lambda v, z: subject.trained(z, subject.mask, v))

  def step(device: jax.Device, variables: Any, z: np.ndarray) -> Any:
    arguments = (z, subject.mask, variables)
    return jax.device_get(subject.trained(*jax.device_put(arguments, device)))

  on_host = functools.partial(step, host)
  start = jax.device_get(subject.variables), z
  expected = exact(*start)
  found = _distances(step(device, *start), expected)
  others = [f(*x) for x in _moves(start) for f in (exact, on_host)]
  moves = [_distances(other, expected) for other in others]
  for path, x in jax.tree_util.tree_leaves_with_path(expected):
    name = jax.tree_util.keystr(path)
    # As near as the contract asks of eight devices and one, and rounding.
    allowed = 1e-5 + 1e-4 * np.max(np.abs(x), initial=0)
    allowed += _SLACK * max(move[name] for move in moves)
    assert found[name] <= allowed, (
      f"training: {name} differs by {found[name]:.1e}, more than {allowed:.1e}"
    )


def _distances(found: Any, expected: Any) -> dict[str, float]:
  """Returns the largest difference of each array of two trees, by its path."""
  differences = jax.tree.map(
    lambda x, y: np.max(np.abs(x.astype(float) - y), initial=0), found, expected
  )
  return {
    jax.tree_util.keystr(path): x
    for path, x in jax.tree_util.tree_leaves_with_path(differences)
  }
