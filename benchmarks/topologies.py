"""Compilation for accelerators that this machine does not have.

The real compilers work without a device.  They tell whether a program compiles,
how much memory it takes, and which operations it becomes.  Nothing runs.
"""

from collections.abc import Callable
import functools
import importlib.util
import os
import pathlib
from typing import Any

import jax
from jax.experimental import topologies

# The smallest topology of each chip, and the name that libtpu reads for it.
_TPUS = {
  "v5e": ("v5e:2x2", "v5litepod-4"),
  "v6e": ("v6e:2x2", "v6e-4"),
  "v5p": ("v5p:2x2x1", "v5p-8"),
}
_GPUS = {"H100": "h100.txtpb"}
CHIPS = (*_TPUS, *_GPUS)
POD = "v5e 4x4"  # sixteen chips
_TOPOLOGIES = {**_TPUS, POD: ("v5e:4x4", "v5litepod-16")}

_PACKAGES = "--no-deps -r benchmarks/aot_requirements.txt"

# Without these libtpu asks a metadata server which chips this machine has.
_TPU_ENVIRONMENT = {
  "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
  "TPU_LOG_DIR": "disabled",
  "TPU_MIN_LOG_LEVEL": "3",
  "TPU_SKIP_MDS_QUERY": "1",
  "TPU_STDERR_LOG_LEVEL": "3",
  "TPU_WORKER_HOSTNAMES": "localhost",
  "TPU_WORKER_ID": "0",
}


def missing_package(chip: str) -> str | None:
  """Returns what `pip install` needs for a chip; None if nothing is missing."""
  if chip in _TOPOLOGIES:
    modules = ("libtpu",)
  else:
    modules = "jax_cuda13_plugin", "jax_plugins.xla_cuda13"
  for module in modules:
    try:
      if importlib.util.find_spec(module) is None:
        return _PACKAGES
    except ModuleNotFoundError:  # the package of the module is missing too
      return _PACKAGES
  return None


@functools.cache
def devices(chip: str) -> tuple[jax.Device, ...]:
  """Returns the devices of a described topology.

  From then on JAX and libtpu do not look for real devices in this process.  If
  this machine has some, call this function in a process of its own.

  Args:
    chip: one of `CHIPS`, or `POD`.

  Raises:
    ValueError: if there is no such chip here.
    ImportError: if its compiler is not installed.
    RuntimeError: if the chip is a GPU, and JAX has looked for a real one
      before.
  """
  known = (*CHIPS, POD)
  if chip not in known:
    raise ValueError(f"chip is {chip!r}; it needs to be one of {known}")
  package = missing_package(chip)
  if package:
    raise ImportError(
      f"compiling for {chip} needs a compiler: pip install {package}"
    )
  if not jax.config.jax_platforms:
    # Otherwise the CUDA plugin looks for CUDA's libraries and gives up.
    jax.config.update("jax_platforms", "cpu")
  if chip in _TOPOLOGIES:
    topology, accelerator = _TOPOLOGIES[chip]
    for name, value in _TPU_ENVIRONMENT.items():
      os.environ.setdefault(name, value)
    os.environ["TPU_ACCELERATOR_TYPE"] = accelerator
    described = topologies.get_topology_desc(topology, platform="tpu")
  else:
    config = pathlib.Path(__file__).with_name(_GPUS[chip]).read_text()
    try:
      described = topologies.get_topology_desc(
        platform="cuda", target_config=config, topology="1x1x1"
      )
    except NotImplementedError as error:
      raise RuntimeError(
        "JAX was in use before and gave CUDA up: set JAX_PLATFORMS=cpu"
      ) from error
  return tuple(described.devices)


def compile_for(
  chip: str,
  function: Callable[..., Any],
  *arguments: Any,
  compiler_options: dict[str, Any] | None = None,
) -> jax.stages.Compiled:
  """Compiles a function for one device of a chip.

  Args:
    chip: one of `CHIPS`.
    function: jitted or not.
    *arguments: of the function, or trees of `jax.ShapeDtypeStruct`.
    compiler_options: of XLA.

  Returns:
    The compiled function, which cannot be called but has `as_text()` and
    `memory_analysis()`.
  """
  sharding = jax.sharding.SingleDeviceSharding(devices(chip)[0])
  arguments = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
    arguments,
  )
  lowered = jax.jit(function).lower(*arguments)
  return lowered.compile(compiler_options)
