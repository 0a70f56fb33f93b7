import pathlib
import subprocess
import sys

from absl.testing import parameterized

_ROOT = pathlib.Path(__file__).parents[2]


def run_main(*arguments, variant=""):
  config = f"experiments/configs/photo_patches.py{variant}"
  return subprocess.run(
    [
      sys.executable,
      "-m",
      "experiments.main",
      f"--config={config}",
      *arguments,
    ],
    cwd=_ROOT,
    capture_output=True,
    text=True,
    timeout=300,
  )


class MainTest(parameterized.TestCase):
  def test_an_unknown_variant(self):
    result = run_main(variant=":adaptiv")
    self.assertEqual(result.returncode, 2)
    self.assertRegex(
      result.stderr, "^error: unknown variant 'adaptiv'.*fixed_NxD.*\n$"
    )

  def test_no_such_config_file(self):
    result = run_main(variant="thon")
    self.assertEqual(result.returncode, 2)
    self.assertRegex(result.stderr, "^error: --config cannot be read.*\n$")

  @parameterized.parameters(
    ("--config.data.image_size=30", "config.data.image_size is 30"),
    ("--config.quantizer.capacity=1000", "capacity is 1000"),
  )
  def test_bad_input_is_one_line_and_leaves_nothing(self, argument, message):
    root = pathlib.Path(self.create_tempdir()) / "run"
    result = run_main(argument, f"--workdir={root}")
    self.assertEqual(result.returncode, 2)
    self.assertRegex(result.stderr, f"^error: .*{message}.*\n$")
    self.assertFalse(root.exists())

  def test_evaluating_what_is_not_there(self):
    root = self.create_tempdir().full_path
    result = run_main("--mode=evaluate", f"--workdir={root}")
    self.assertEqual(result.returncode, 2)
    self.assertRegex(result.stderr, "^error: .* has no checkpoint yet")
