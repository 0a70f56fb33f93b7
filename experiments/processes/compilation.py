"""Where JAX keeps compiled programs, with which later commands start faster.

JAX compiles again what it cannot read, such as a program that was cut short by
a kill, and says so.
"""

from collections.abc import Sequence
import hashlib
import os
import pathlib
import platform
import stat
import sys
import tempfile

from absl import flags

from experiments.errors import one_line
from experiments.processes import command

_FLAG = flags.DEFINE_string(
  "compilation_cache",
  None,
  "Directory for compiled programs, which later commands start faster with; or"
  " off.  By default what JAX's own JAX_COMPILATION_CACHE_DIR says, else"
  " ~/.cache/adq_jax/xla.",
)
_OFF = "off"
_MOST_BYTES = 2**30  # of all programs; the oldest go
_MIN_SECONDS = 0.3  # that a program takes to compile, to be kept


def keep_programs() -> None:
  """Has JAX keep the programs that it compiles from here on.

  Where they cannot be kept a line says so, and the command goes on without.
  Call it when JAX has its devices.

  Raises:
    UserError: if the flag is no path.
  """
  import jax  # late, as in all modules with flags

  directory = command.path_of(_FLAG)
  if _may_go_wrong() or _FLAG.value == _OFF:
    jax.config.update("jax_enable_compilation_cache", False)
    return
  if directory is None and jax.config.jax_compilation_cache_dir:
    return  # JAX's own setting, and all that it means
  try:
    directory = (directory or _default()) / _machine()
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=directory) as file:
      file.write(b"whether there is room")
    _remove_oldest(directory)
  except (OSError, RuntimeError) as error:
    print(
      f"warning: compiled programs are not kept ({one_line(error)}); name"
      f" another directory with --{_FLAG.name}=DIR, or {_OFF}",
      file=sys.stderr,
    )
    return
  jax.config.update("jax_compilation_cache_dir", str(directory))
  jax.config.update("jax_persistent_cache_min_compile_time_secs", _MIN_SECONDS)


def arguments() -> Sequence[str]:
  """Returns the flag as a command is given it that this one starts."""
  return [] if _FLAG.value is None else [f"--{_FLAG.name}={_FLAG.value}"]


def _may_go_wrong() -> bool:
  """Whether a program that is read from the cache may not be what it was.

  Several devices of the CPU backend add up and gather in the order of the
  program.  One that is read from the cache has lost that order: two collectives
  that do not depend on each other may meet, and then the process crashes, or
  numbers are silently wrong.  Accelerators keep the order, and a single device
  has nothing to gather.
  """
  import jax

  return jax.default_backend() == "cpu" and jax.device_count() > 1


def _default() -> pathlib.Path:
  """Raises a RuntimeError where there is no home directory."""
  caches = pathlib.Path(os.environ.get("XDG_CACHE_HOME", ""))
  if not caches.is_absolute():  # to be ignored, as its specification says
    caches = pathlib.Path.home() / ".cache"
  return caches / "adq_jax" / "xla"


def _machine() -> str:
  """Tells machines apart that do not have the same instructions or cores.

  They may share a home directory; JAX's keys do not promise to know.
  """
  try:
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
  except OSError:
    lines = [platform.processor()]
  names = ("flags", "Features", "model name")  # of x86, and of Arm
  described = sorted({line for line in lines if line.startswith(names)})
  cores = (str(os.cpu_count()), os.environ.get("NPROC", ""))
  text = "\n".join([platform.machine(), *cores, *(described or lines)])
  return hashlib.sha256(text.encode()).hexdigest()[:16]


def _remove_oldest(directory: pathlib.Path) -> None:
  """Keeps the programs of a directory below `_MOST_BYTES`."""
  found = []
  for path in directory.iterdir():
    try:
      status = path.stat()
    except FileNotFoundError:  # another command is faster
      continue
    if stat.S_ISREG(status.st_mode):  # XLA has directories there
      found.append((status.st_mtime, status.st_size, path))
  total = sum(size for _, size, _ in found)
  for _, size, path in sorted(found):
    if total <= _MOST_BYTES:
      break
    path.unlink(missing_ok=True)
    total -= size
