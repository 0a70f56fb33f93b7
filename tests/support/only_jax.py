"""Runs code where nothing but jax, and what it needs, can be imported."""

import os
import pathlib
import subprocess
import sys

_WITHOUT = """
import sys

class Refuse:
  def find_spec(self, name, *unused):
    if name.partition(".")[0] in ("adq_jax", "flax", "chex", "optax"):
      raise ImportError(f"{name} is not installed here")

sys.meta_path.insert(0, Refuse())
"""


def run(code: str, folder: pathlib.Path, *arguments: str) -> None:
  """Runs code in a fresh process, in a folder, on one CPU device.

  Args:
    code: a program.
    folder: where it runs.
    *arguments: of the program, in `sys.argv[1:]`.

  Raises:
    AssertionError: if it fails, with what it says.
  """
  result = subprocess.run(
    [sys.executable, "-W", "ignore", "-c", _WITHOUT + code, *arguments],
    cwd=folder,
    env={**os.environ, "JAX_PLATFORMS": "cpu"},
    capture_output=True,
    text=True,
  )
  assert not result.returncode, result.stderr
