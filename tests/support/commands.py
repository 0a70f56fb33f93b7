"""Runs the commands of the experiments, as a user does."""

import os
import pathlib
import subprocess
import sys

_ROOT = pathlib.Path(__file__).parents[2]


def run_main(
  *arguments, variant="", name="photo_patches", cwd=_ROOT, **environment
):
  config = f"experiments/configs/{name}.py{variant}"
  return subprocess.run(
    [
      sys.executable,
      "-m",
      "experiments.main",
      f"--config={config}",
      *arguments,
    ],
    cwd=cwd,
    env={**os.environ, **environment},
    capture_output=True,
    text=True,
    timeout=600,
  )
