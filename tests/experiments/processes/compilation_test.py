import contextlib
import io
import os
import pathlib
import subprocess
import sys
import tempfile
from unittest import mock

from absl.testing import flagsaver
from absl.testing import parameterized
import jax
from jax.experimental.compilation_cache import compilation_cache

from experiments.errors import UserError
from experiments.processes import compilation

_PROGRAM = """
import sys

from absl import flags
import jax
from jax import monitoring

from experiments.processes import compilation

flags.FLAGS(sys.argv)
compilation._MIN_SECONDS = 0
compilation.keep_programs()
monitoring.register_event_listener(lambda name, **_: print(name.split("/")[-1]))
print(jax.jit(lambda x: x * 3)(7))
"""
_ROOT = pathlib.Path(__file__).parents[3]


class CompilationTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.create_tempdir())
    for name in (
      "jax_enable_compilation_cache",
      "jax_compilation_cache_dir",
      "jax_persistent_cache_min_compile_time_secs",
    ):
      self.addCleanup(jax.config.update, name, getattr(jax.config, name))
    self.addCleanup(compilation_cache.reset_cache)
    self.enter_context(
      mock.patch.dict(os.environ, {"XDG_CACHE_HOME": str(self.root)})
    )
    jax.config.update("jax_enable_compilation_cache", True)
    jax.config.update("jax_compilation_cache_dir", None)
    compilation_cache.reset_cache()

  def keep(self, flag=None, backend="cpu", count=1):
    """Returns the directory that is used, and what is said."""
    with (
      flagsaver.flagsaver(compilation_cache=flag),
      mock.patch.object(jax, "default_backend", return_value=backend),
      mock.patch.object(jax, "device_count", return_value=count),
      contextlib.redirect_stderr(io.StringIO()) as said,
    ):
      compilation.keep_programs()
    return jax.config.jax_compilation_cache_dir, said.getvalue()

  @parameterized.parameters(
    ("cpu", 8, False), ("cpu", 1, True), ("gpu", 8, True), ("tpu", 1, True)
  )
  def test_several_devices_of_a_cpu_have_no_cache(self, backend, count, is_on):
    self.keep(backend=backend, count=count)
    self.assertEqual(jax.config.jax_enable_compilation_cache, is_on)

  def test_the_users_directory_for_caches_is_the_default(self):
    directory, said = self.keep()
    self.assertEqual(said, "")
    place = pathlib.Path(directory)
    self.assertEqual(place.parent, self.root / "adq_jax" / "xla")
    self.assertTrue(place.is_dir())

  @parameterized.parameters("", "relative")
  def test_without_one_it_is_in_the_home_directory(self, caches):
    os.environ.update(XDG_CACHE_HOME=caches, HOME=str(self.root))
    directory, _ = self.keep()
    expected = self.root / ".cache" / "adq_jax" / "xla"
    self.assertEqual(pathlib.Path(directory).parent, expected)

  def test_the_flag_moves_it(self):
    directory, said = self.keep(str(self.root / "mine"))
    self.assertEqual(said, "")
    self.assertEqual(pathlib.Path(directory).parent, self.root / "mine")

  def test_the_flag_turns_it_off(self):
    self.keep("off")
    self.assertFalse(jax.config.jax_enable_compilation_cache)
    self.assertEmpty(list(self.root.iterdir()))

  def test_a_flag_without_a_value(self):
    with self.assertRaisesRegex(UserError, "--compilation_cache is empty"):
      self.keep("")

  def test_a_setting_of_jax_is_left_alone_but_for_the_flag(self):
    jax.config.update("jax_compilation_cache_dir", "/of/the/user")
    directory, _ = self.keep()
    self.assertEqual(directory, "/of/the/user")
    self.assertEmpty(list(self.root.iterdir()))
    directory, _ = self.keep(str(self.root))
    self.assertEqual(pathlib.Path(directory).parent, self.root)

  def test_a_file_in_its_place(self):
    (self.root / "adq_jax").write_text("mine")
    self.assert_goes_on_without("adq_jax")
    self.assertEqual((self.root / "adq_jax").read_text(), "mine")

  @parameterized.parameters(
    (pathlib.Path, "mkdir", PermissionError(13, "Permission denied")),
    (pathlib.Path, "mkdir", OSError(30, "Read-only file system")),
    (tempfile, "TemporaryFile", OSError(28, "No space left on device")),
  )
  def test_a_directory_that_cannot_be_written(self, where, name, error):
    with mock.patch.object(where, name, side_effect=error):
      self.assert_goes_on_without(error.strerror)

  def test_no_home_directory(self):
    os.environ["XDG_CACHE_HOME"] = ""
    error = RuntimeError("Could not determine home directory.")
    with mock.patch.object(pathlib.Path, "home", side_effect=error):
      self.assert_goes_on_without("home directory")

  def assert_goes_on_without(self, why):
    directory, said = self.keep()
    self.assertIsNone(directory)
    self.assertRegex(said, f"^warning: .* not kept .*{why}.*--comp.*\n$")

  def test_machines_are_told_apart_by_their_instructions(self):
    here = compilation._machine()
    self.assertEqual(compilation._machine(), here)
    flags = "flags\t\t: fpu avx512f\n"
    with mock.patch.object(pathlib.Path, "read_text", return_value=flags):
      there = compilation._machine()
      with mock.patch.object(os, "cpu_count", return_value=1_000):
        self.assertNotEqual(compilation._machine(), there)
    self.assertNotEqual(there, here)

  def start(self):
    """Returns what a command prints that compiles a program, and its errors."""
    result = subprocess.run(
      [sys.executable, "-c", _PROGRAM, f"--compilation_cache={self.root}"],
      cwd=_ROOT,
      env={**os.environ, "JAX_COMPILATION_CACHE_DIR": "", "XLA_FLAGS": ""},
      capture_output=True,
      text=True,
      check=True,
    )
    *events, number = result.stdout.split()
    self.assertEqual(number, "21")
    return events, result.stderr

  def test_the_next_command_finds_what_the_first_has_compiled(self):
    first, errors = self.start()
    self.assertEqual(errors, "")
    self.assertIn("cache_misses", first)
    second, errors = self.start()
    self.assertEqual(errors, "")
    self.assertIn("cache_hits", second)
    self.assertNotIn("cache_misses", second)
    with self.subTest("programs that were cut short are compiled again"):
      for path in self.root.rglob("*"):
        if path.is_file():
          path.write_bytes(path.read_bytes()[:-30])
      _, errors = self.start()
      self.assertIn("Error reading persistent compilation cache", errors)

  def test_the_oldest_programs_go(self):
    paths = [self.root / f"{i}-cache" for i in range(3)]
    for i, path in enumerate(paths):
      path.write_bytes(b"x" * 1_000)
      os.utime(path, (10 - i, 10 - i))
    of_xla = self.root / "xla_gpu_autotune"
    of_xla.mkdir()
    os.utime(of_xla, (0, 0))
    with mock.patch.object(compilation, "_MOST_BYTES", 2_500):
      compilation._remove_oldest(self.root)
    left = sorted(self.root.iterdir())
    self.assertEqual(left, [paths[0], paths[1], of_xla])
