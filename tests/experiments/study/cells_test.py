import pathlib
import subprocess
import sys

from absl.testing import parameterized

_ROOT = pathlib.Path(__file__).parents[3]
_PROGRAM = """
import sys
import {}
print(*{{name.partition(".")[0] for name in sys.modules}})
"""


class ImportTest(parameterized.TestCase):
  @parameterized.parameters("cells", "rendering")
  def test_what_reads_runs_needs_nothing_that_trains_or_draws(self, module):
    result = subprocess.run(
      [sys.executable, "-c", _PROGRAM.format(f"experiments.study.{module}")],
      cwd=_ROOT,
      capture_output=True,
      text=True,
      check=True,
    )
    loaded = result.stdout.split()
    self.assertIn("experiments", loaded)
    self.assertNoCommonElements(
      loaded,
      ["flax", "grain", "jax", "matplotlib", "orbax", "tensorflow_datasets"],
    )
