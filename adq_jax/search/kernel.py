"""The fused kernel as an operation that every platform can lower.

Shapes: T points, N codewords, D their width.

A kernel is written for one platform, and lowering it for another is an error.
`jax.lax.platform_dependent` does not prevent that where a program is exported
for several platforms: each branch is lowered for all of these, though it runs
on one alone.  So the search is a primitive, whose rule on other platforms is
the scan.  It is the scan too in programs that a compiler spreads over several
devices, since none can cut a kernel.
"""

import jax
from jax.extend.core import Primitive
from jax.interpreters import batching
from jax.interpreters import mlir
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from adq_jax import collectives
from adq_jax.search import pallas
from adq_jax.search import scan

_search_p = Primitive("nearest_codes_kernel")


def search(
  points: jax.Array, codewords: jax.Array, *, platform: str
) -> jax.Array:
  """Returns what `pallas.search` does on its platform, and the scan elsewhere.

  Args:
    points: finite float32 `[T, D]`.
    codewords: float32 `[N, D]`, none of them NaN.
    platform: `"tpu"` or `"gpu"`, of NVIDIA.

  Returns:
    int32 `[T]`.
  """
  return _search_p.bind(
    collectives.vary_as(points, codewords),
    collectives.vary_as(codewords, points),
    platform=platform,
  )


@_search_p.def_impl
def _search_now(points, codewords, *, platform):
  return jax.jit(_search_p.bind, static_argnames="platform")(
    points, codewords, platform=platform
  )


@_search_p.def_abstract_eval
def _type_of_search(points, codewords, *, platform):
  del codewords, platform
  # One axis fewer, on the same mesh and varying over the same of its axes.
  sharding = points.sharding
  spec = PartitionSpec(*sharding.spec[:1])
  return points.update(
    shape=points.shape[:1],
    dtype=jnp.dtype("int32"),
    sharding=sharding.update(spec=spec),
  )


def _search_batches(arrays, axes, *, platform):
  """The rule of `jax.vmap`: one search after another, or one of all points."""
  points, codewords = (
    x if axis is None else jnp.moveaxis(x, axis, 0)
    for x, axis in zip(arrays, axes, strict=True)
  )
  if axes[1] is None:
    flat = points.reshape(-1, points.shape[-1])
    codes = search(flat, codewords, platform=platform)
    return codes.reshape(points.shape[:-1]), 0
  if axes[0] is None:
    points = jnp.broadcast_to(points, (len(codewords), *points.shape))
  return jax.lax.map(
    lambda pair: search(*pair, platform=platform), (points, codewords)
  ), 0


_lower_kernel = mlir.lower_fun(pallas.search, multiple_results=False)
_lower_scan = mlir.lower_fun(
  lambda points, codewords, platform: scan.search_blocked(points, codewords),
  multiple_results=False,
)


def _on(platform):
  """Returns the rule of a platform that has a kernel."""

  def lower(context, *arrays, **wanted):
    is_kernel = wanted["platform"] == platform and _is_of_one_device(
      context.module_context.axis_context
    )
    return (_lower_kernel if is_kernel else _lower_scan)(
      context, *arrays, **wanted
    )

  return lower


def _is_of_one_device(context) -> bool:
  """Returns whether a program is what one device computes.

  That is so on a single device, and inside of `jax.shard_map` over all axes of
  a mesh.  Of all other programs a compiler makes what devices compute, and it
  cannot cut a kernel.
  """
  if getattr(context, "num_devices", 1) > 1:  # of a jit over several devices
    return False
  manual = getattr(context, "manual_axes", frozenset())
  return not manual or manual == frozenset(context.mesh.axis_names)


batching.primitive_batchers[_search_p] = _search_batches
mlir.register_lowering(_search_p, _on("tpu"), platform="tpu")
mlir.register_lowering(_search_p, _on("gpu"), platform="cuda")
mlir.register_lowering(_search_p, _lower_scan)
