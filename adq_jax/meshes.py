"""Methods and functions on meshes whose axes are Explicit.

On such a mesh the type of an array says how it is spread over devices, and
every operation has to know it.  Quantizers, models and searches leave that to
the compiler: inside of them the axes are Auto.
"""

from collections.abc import Callable
import contextlib
import functools
from typing import Any
from typing import ParamSpec
from typing import TypeVar

from flax.core import lift
from flax.linen import transforms
import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh
from jax.sharding import AxisType
from jax.sharding import PartitionSpec

WHOLE = PartitionSpec()
"""Of an array that every device has."""

_Function = Callable[..., Any]
_Specs = Callable[..., Any]
_P = ParamSpec("_P")
_R = TypeVar("_R")


def function_inside_auto(
  specs: _Specs,
) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
  """Decorates a function, which then takes arrays of any mesh.

  Args:
    specs: takes the function's arguments, and returns how results lie on the
      mesh, as that of `inside_auto`.
  """

  def decorate(function: Callable[_P, _R]) -> Callable[_P, _R]:
    @functools.wraps(function)
    def called(*args: _P.args, **kwargs: _P.kwargs) -> _R:
      mesh = _explicit_mesh(args, kwargs)
      if mesh is None:
        return function(*args, **kwargs)
      with _entered(args, kwargs):
        with jax.sharding.use_abstract_mesh(_with_auto_axes(mesh)):
          args_in, kwargs_in = _everywhere((args, kwargs))
          results = function(*args_in, **kwargs_in)
        with jax.sharding.use_abstract_mesh(mesh):
          return _lay(results, specs(*args, **kwargs))

    return called

  return decorate


def inside_auto(specs: _Specs) -> Callable[[_Function], _Function]:
  """Decorates a method of a Flax module, which then takes arrays of any mesh.

  Args:
    specs: takes the method's arguments, without the module, and returns how
      results lie on the mesh: a tree of PartitionSpecs, of which each is for an
      array or for a tree of arrays.
  """

  def decorate(method: _Function) -> _Function:
    lifted = transforms.lift_transform(_lift, method, specs)

    @functools.wraps(method)
    def called(self, *args, **kwargs):
      if _explicit_mesh(args, kwargs) is None:
        return method(self, *args, **kwargs)
      with _entered(args, kwargs):
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
  on_arrays = (jax.typeof(x).sharding.mesh for x in _arrays(tree))
  for mesh in (jax.sharding.get_abstract_mesh(), *on_arrays):
    if not mesh.empty and AxisType.Explicit in mesh.axis_types:
      return mesh
  return None


def _entered(*tree: Any) -> contextlib.AbstractContextManager[Any]:
  """Enters the mesh of arrays, where the caller has entered none.

  Outside of `jax.jit` nothing else would say which devices compute.
  """
  arrays = _arrays(tree)
  is_traced = any(isinstance(x, jax.core.Tracer) for x in arrays)
  if jax.sharding.get_abstract_mesh().empty and not is_traced:
    for x in arrays:
      if not jax.typeof(x).sharding.mesh.empty:
        with contextlib.suppress(ValueError):  # inside of jax.jit after all
          return jax.set_mesh(x.sharding.mesh)
  return contextlib.nullcontext()


def _arrays(tree: Any) -> list[jax.Array]:
  return [x for x in jax.tree.leaves(tree) if isinstance(x, jax.Array)]


def _with_auto_axes(mesh: AbstractMesh) -> AbstractMesh:
  """Returns a mesh with Auto axes in place of Explicit ones."""
  return mesh.update_axis_types(
    {
      name: AxisType.Auto
      for name, kind in zip(mesh.axis_names, mesh.axis_types, strict=True)
      if kind == AxisType.Explicit
    }
  )


def _lift(function: _Function, specs: _Specs) -> _Function:
  """Returns a function of a Flax scope that runs with Auto axes."""

  def run(scope_fn, repack_fn, variables, rngs, *args, **kwargs):
    given = variables, rngs, args, kwargs
    mesh = _explicit_mesh(given)
    with jax.sharding.use_abstract_mesh(_with_auto_axes(mesh)):
      variables_in, rngs_in, args_in, kwargs_in = _everywhere(given)
      scope = scope_fn(variables_in, rngs_in)
      results = function(scope, *args_in, **kwargs_in)
      variables_after = repack_fn(scope)
    before = dict(jax.tree.leaves_with_path(variables))
    with jax.sharding.use_abstract_mesh(mesh):
      variables_after = jax.tree.map_with_path(
        lambda path, x: _reshard(x, leading(before.get(path), jnp.ndim(x))),
        variables_after,
      )
      results = _lay(results, specs(*args, **kwargs))
    return results, variables_after

  return lift.pack(
    run, (True,), (True,), (True,), name="auto", enable_kwargs=True
  )


def _everywhere(tree: Any) -> Any:
  """Returns a tree of arrays that do not say how they lie."""
  return jax.tree.map(lambda x: _reshard(x, WHOLE), tree)


def _lay(results: Any, specs: Any) -> Any:
  """Returns a tree of arrays of the types that a tree of specs has."""
  return jax.tree.map(
    lambda spec, part: jax.tree.map(lambda x: _reshard(x, spec), part),
    specs,
    results,
    is_leaf=lambda x: isinstance(x, PartitionSpec),
  )


def _reshard(x: Any, spec: PartitionSpec) -> Any:
  """Returns an array of the type that a spec has; anything else as it is."""
  return jax.sharding.reshard(x, spec) if isinstance(x, jax.Array) else x
