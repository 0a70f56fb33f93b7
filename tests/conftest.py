"""Eight virtual CPU devices for all tests."""

import gc
import os
import tempfile

# Twice the devices: with fewer threads, collectives on a machine of few cores
# can wait for each other for ever.
os.environ["NPROC"] = "16"
os.environ["JAX_PLATFORMS"] = "cpu"
# Compiling takes most of the tests' time, and most of that goes into
# optimizing.  (Without the emitters of fusions it would be faster still, but
# equal sums are then not rounded alike, and some searches find other codes.)
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

# Many tests compile the same training step, in any of pytest's processes, or in
# commands that they start; these have nothing to leave in the home directory.
# (There Matplotlib has its list of fonts, which takes seconds to make.)
if "ADQ_JAX_TESTS_CACHE" not in os.environ:  # the first of pytest's processes
  _REMOVED_AT_EXIT = tempfile.TemporaryDirectory(
    prefix="adq_jax_tests_", ignore_cleanup_errors=True
  )
  os.environ["ADQ_JAX_TESTS_CACHE"] = _REMOVED_AT_EXIT.name
_PROGRAMS = os.environ["ADQ_JAX_TESTS_CACHE"]
_CACHES = os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache"))
os.environ.setdefault("MPLCONFIGDIR", f"{_CACHES}/matplotlib")
os.environ["XDG_CACHE_HOME"] = f"{_PROGRAMS}/commands"

from absl import flags  # noqa: E402
import chex  # noqa: E402
import jax  # noqa: E402
from jax.experimental.compilation_cache import compilation_cache  # noqa: E402
import pytest  # noqa: E402

# Tracing makes many objects that stay; looking for garbage took 6% of the time.
gc.set_threshold(200_000, 100, 100)

chex.set_n_cpu_devices(8)
flags.FLAGS.mark_as_parsed()  # pytest, not absl, reads the command line
jax.config.update("jax_compilation_cache_dir", f"{_PROGRAMS}/tests")
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


_MOST_MAPS = 30_000  # after which compiled programs are forgotten


@pytest.fixture(autouse=True, scope="module")
def forget_programs():
  """Compiled programs take memory maps, of which Linux allows 65,530."""
  yield
  jax.clear_caches()


@pytest.fixture(autouse=True)
def forget_programs_of_a_long_module():
  yield
  with open("/proc/self/maps") as maps:
    if sum(1 for _ in maps) > _MOST_MAPS:
      jax.clear_caches()


@pytest.fixture(scope="module")
def without_kept_programs():
  """For collectives that do not depend on each other; see `compilation`."""
  jax.config.update("jax_enable_compilation_cache", False)
  compilation_cache.reset_cache()
  yield
  jax.config.update("jax_enable_compilation_cache", True)
  compilation_cache.reset_cache()
