import pathlib
import re
import subprocess
import sys

from absl.testing import absltest
import numpy as np

_ROOT = pathlib.Path(__file__).parents[2]


def run(*flags):
  return subprocess.run(
    [sys.executable, "-m", "experiments.vectors", *flags],
    cwd=_ROOT,
    capture_output=True,
    text=True,
    timeout=300,
  )


class VectorsTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.path = pathlib.Path(self.create_tempdir()) / "vectors.npy"
    vectors = np.random.default_rng(0).normal(size=(200, 3))
    np.save(self.path, vectors.astype(np.float32))

  def test_a_small_file(self):
    result = run(
      f"--input={self.path}",
      "--stages=2",
      "--codebook_size=4",
      "--network=qinco2",
      "--blocks=1",
      "--hidden=4",
      "--width=4",
      "--candidates=2",
      "--beam=2",
      "--epochs=2",
      "--batch_size=40",
    )
    self.assertEqual(result.returncode, 0, result.stderr)
    first, *lines = result.stdout.splitlines()
    self.assertEqual(first, "160 vectors to train on, 20 to search in")
    figures = r" +4 bits, MSE [\d.]+, recall at 1 [\d.]+% of 20 queries"
    for line, pattern in zip(
      lines,
      (
        f"residual{figures}",
        r"epoch 1 of 2, loss [\d.]+",
        r"epoch 2 of 2, loss [\d.]+",
        f"QINCo{figures}",
      ),
      strict=True,
    ):
      self.assertRegex(line, re.compile(f"^{pattern}$"))

  def test_errors(self):
    for flags, message in (
      (("--queries=x.npy",), "one alone is given; give both or none"),
      ((f"--base={self.path}", "--queries=x.npy"), "x.npy cannot be read"),
    ):
      result = run(f"--input={self.path}", *flags)
      self.assertEqual(result.returncode, 2, result.stderr)
      self.assertRegex(result.stderr, f"error: .*{message}")
