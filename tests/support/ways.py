"""The ways of spreading a training step over eight devices.

Each returns what one device returns for the whole batch.
"""

import contextlib
import dataclasses
import functools

import jax
from jax.sharding import AxisType
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec
import numpy as np
import pytest

from tests.support.small import bits
from tests.support.small import train

_AXIS = "devices"
_WHOLE, _ROWS = PartitionSpec(), PartitionSpec(_AXIS)


def by_pmap(subject, z):
  """By `jax.pmap`; all devices must have the same."""
  many = dataclasses.replace(subject.quantizer, axis_name=_AXIS)
  found = jax.pmap(lambda *args: train(many, subject.variables, *args), _AXIS)(
    *(x.reshape(8, -1, *x.shape[1:]) for x in _batch(subject, z))
  )
  # As NumPy arrays, which compile nothing to be taken apart.
  (gradient, z_gradient), result, after = jax.device_get(found)
  for x in jax.tree.leaves((result.metrics, result.statistics, after)):
    np.testing.assert_array_equal(
      bits(x), bits(np.broadcast_to(x[:1], x.shape))
    )
  joined = {
    name: jax.tree.map(
      lambda x: x.reshape(-1, *x.shape[2:]), getattr(result, name)
    )
    for name in ("values", "codes")
  }
  same = {
    name: jax.tree.map(lambda x: x[0], getattr(result, name))
    for name in ("metrics", "statistics")
  }
  return (
    (
      jax.tree.map(lambda x: x.mean(axis=0), gradient),
      z_gradient.reshape(z.shape) / 8,
    ),
    result.replace(loss=result.loss.mean(), **joined, **same),
    jax.tree.map(lambda x: x[0], after),
  )


def by_shard_map(subject, z):
  """By `jax.shard_map`, which checks that devices have the same."""
  return _by_shard_map(subject, z, jax.make_mesh((8,), (_AXIS,)))


def by_shards(subject, z):
  """By `jax.shard_map`, where devices share out the codewords."""
  if not hasattr(subject.quantizer, "shard_codebook"):
    pytest.skip("every device has all codewords")
  if subject.quantizer.update.uses_gradients:
    pytest.skip("what has parameters is not shared out")
  # As many as divide N.
  mesh = jax.make_mesh((4,), (_AXIS,), devices=jax.devices()[:4])
  return _by_shard_map(subject, z, mesh, shard_codebook=True)


def _by_shard_map(subject, z, mesh, **fields):
  many = dataclasses.replace(subject.quantizer, axis_name=_AXIS, **fields)
  of_words = _ROWS if many.sharded_size else _WHOLE

  def lie(tree):
    return jax.tree.map(lambda x: of_words if x.ndim else _WHOLE, tree)

  state = {
    name: lie(x) if name == "codebook" else _WHOLE
    for name, x in subject.variables.items()
  }

  def step(variables, *batch):
    gradients, result, after = train(many, variables, *batch)
    loss = jax.lax.pmean(result.loss, _AXIS)
    return gradients, result.replace(loss=loss), after

  result = _result_of(
    subject, loss=_WHOLE, values=_ROWS, codes=_ROWS, statistics=of_words
  )
  spread = jax.shard_map(
    step,
    mesh=mesh,
    in_specs=(state, _ROWS, _ROWS, _ROWS),
    out_specs=((_WHOLE, _ROWS), result, state),
  )
  batch = jax.device_put(_batch(subject, z), NamedSharding(mesh, _ROWS))
  variables = jax.device_put(
    subject.variables,
    jax.tree.map(lambda spec: NamedSharding(mesh, spec), state),
  )
  gradients, result, after = jax.jit(spread)(variables, *batch)
  # Of what all devices have, they are sums over devices.
  return jax.tree.map(lambda x: x / mesh.size, gradients), result, after


def by_jit(subject, z, *, shape, kind):
  """By `jax.jit` of arrays that lie on a mesh."""
  with _on_mesh(subject, z, shape, kind) as args:
    return jax.jit(functools.partial(train, subject.quantizer))(*args)


def trace_on_mesh(subject):
  """Shapes and dtypes of a step on a mesh of explicit axes."""
  with _on_mesh(subject, subject.z, (4, 2), AxisType.Explicit) as args:
    return jax.eval_shape(functools.partial(train, subject.quantizer), *args)


@contextlib.contextmanager
def _on_mesh(subject, z, shape, kind):
  mesh = jax.make_mesh(
    shape, (_AXIS, "model")[: len(shape)], axis_types=(kind,) * len(shape)
  )
  with jax.set_mesh(mesh):
    variables = jax.device_put(subject.variables, NamedSharding(mesh, _WHOLE))
    batch = jax.device_put(_batch(subject, z), NamedSharding(mesh, _ROWS))
    yield variables, *batch


# But for the first, `by_shard_map`.
WAYS = (
  pytest.param(by_shards, id="shards"),
  pytest.param(
    functools.partial(by_jit, shape=(4, 2), kind=AxisType.Explicit),
    id="explicit",
  ),
  pytest.param(
    functools.partial(by_jit, shape=(4, 2), kind=AxisType.Auto),
    id="auto",
    marks=pytest.mark.slow,
  ),
  pytest.param(by_pmap, id="pmap", marks=pytest.mark.slow),
)


def _batch(subject, z):
  return z, subject.mask, subject.weights


def _result_of(subject, **specs):
  """The specs of a result, whose other fields are the same on all devices."""
  result, _ = subject.trace_step(subject.z)
  return dataclasses.replace(
    result, **{"metrics": _WHOLE, "statistics": _WHOLE, **specs}
  )
