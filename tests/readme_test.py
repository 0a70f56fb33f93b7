"""What the README shows is what is true."""

import pathlib
import re

from absl.testing import parameterized
import jax.numpy as jnp

_README = (pathlib.Path(__file__).parents[1] / "README.md").read_text()


class ReadmeTest(parameterized.TestCase):
  def test_the_quantizer_example_runs(self):
    (example,) = (
      code
      for code in re.findall(r"```python\n(.*?)```", _README, re.S)
      if "AdaptiveQuantizer(" in code
    )
    names = {}
    exec(example, names)
    self.assertEqual(names["codes"].book.shape, (8, 16, 16))
    self.assertEqual(names["values"].shape, names["z"].shape)
    self.assertTrue(jnp.isfinite(names["loss"]))

  def test_files_named_exist(self):
    root = pathlib.Path(__file__).parents[1]
    for name in re.findall(r"\]\((docs/[^)]*)\)", _README):
      self.assertTrue((root / name).exists(), name)
    for name in re.findall(r"`(experiments/[^`]*\.py)`", _README):
      self.assertTrue((root / name).exists(), name)

  def test_tests_named_exist(self):
    tests = pathlib.Path(__file__).parent
    named = re.findall(r"`(\w+_test\.py)::(\w+)`", _README)
    self.assertNotEmpty(named)
    for file, test in named:
      texts = [path.read_text() for path in tests.rglob(file)]
      self.assertIn(f"def {test}(", "".join(texts), file)
