"""Methods of modules on meshes whose axes are Explicit.

On such a mesh the type of an array says how it is spread over devices, and
every operation has to know it.  Quantizers and models leave that to the
compiler: inside their methods the axes are Auto.
"""

from collections.abc import Callable
import functools
from typing import Any

from flax.core import lift
from flax.linen import transforms
import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh
from jax.sharding import AxisType
from jax.sharding import PartitionSpec

WHOLE = PartitionSpec()
"""Of an array that every device has."""

_Method = Callable[..., Any]


def inside_auto(specs: Callable[..., Any]) -> Callable[[_Method], _Method]:
  """Decorates a method of a Flax module, which then takes arrays of any mesh.

  Args:
    specs: takes the method's arguments, without the module, and returns how
      results lie on the mesh: a tree of PartitionSpecs, of which each is for an
      array or for a tree of arrays.
  """

  def decorate(method: _Method) -> _Method:
    lifted = transforms.lift_transform(_lift, method, specs)

    @functools.wraps(method)
    def called(self, *args, **kwargs):
      if _explicit_mesh(args, kwargs) is None:
        return method(self, *args, **kwargs)
      return lifted(self, *args, **kwargs)

    return called

  return decorate


def leading(x: Any, count: int) -> PartitionSpec:
  """Returns how the first axes of an array lie on the Explicit axes."""
  if not isinstance(x, jax.Array):
    return WHOLE
  return PartitionSpec(*jax.typeof(x).sharding.spec[:count])


def _explicit_mesh(*tree: Any) -> AbstractMesh | None:
  """Returns the mesh of a call if it has Explicit axes."""
  meshes = [jax.sharding.get_abstract_mesh()]
  meshes += [
    jax.typeof(x).sharding.mesh
    for x in jax.tree.leaves(tree)
    if isinstance(x, jax.Array)
  ]
  for mesh in meshes:
    if not mesh.empty and AxisType.Explicit in mesh.axis_types:
      return mesh
  return None


def _lift(function: _Method, specs: Callable[..., Any]) -> _Method:
  """Returns a function of a Flax scope that runs with Auto axes."""

  def run(scope_fn, repack_fn, variables, rngs, *args, **kwargs):
    given = variables, rngs, args, kwargs
    mesh = _explicit_mesh(given)
    auto = mesh.update_axis_types(
      {
        name: AxisType.Auto
        for name, kind in zip(mesh.axis_names, mesh.axis_types, strict=True)
        if kind == AxisType.Explicit
      }
    )
    with jax.sharding.use_abstract_mesh(auto):
      variables_in, rngs_in, args_in, kwargs_in = jax.tree.map(
        lambda x: _reshard(x, WHOLE), given
      )
      scope = scope_fn(variables_in, rngs_in)
      results = function(scope, *args_in, **kwargs_in)
      variables_after = repack_fn(scope)
    before = dict(jax.tree.leaves_with_path(variables))
    with jax.sharding.use_abstract_mesh(mesh):
      variables_after = jax.tree.map_with_path(
        lambda path, x: _reshard(x, leading(before.get(path), jnp.ndim(x))),
        variables_after,
      )
      results = jax.tree.map(
        lambda spec, part: jax.tree.map(lambda x: _reshard(x, spec), part),
        specs(*args, **kwargs),
        results,
        is_leaf=lambda x: isinstance(x, PartitionSpec),
      )
    return results, variables_after

  return lift.pack(
    run, (True,), (True,), (True,), name="auto", enable_kwargs=True
  )


def _reshard(x: Any, spec: PartitionSpec) -> Any:
  """Returns an array of the type that a spec has; anything else as it is."""
  return jax.sharding.reshard(x, spec) if isinstance(x, jax.Array) else x
