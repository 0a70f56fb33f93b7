import pathlib

from absl.testing import parameterized

from experiments.configs import variants
from tests.support.commands import run_main

_ROOT = pathlib.Path(__file__).parents[2]


class MainTest(parameterized.TestCase):
  def test_help_shows_the_flags_of_configs(self):
    result = run_main("--help")
    self.assertIn("--config: FILE[:VARIANT], the experiment", result.stdout)
    self.assertIn("--config.FIELD: VALUE of a field", result.stdout)

  def test_help_with_variants_from_any_directory(self):
    result = run_main(
      variant=":help",
      cwd=self.create_tempdir().full_path,
      PYTHONPATH=str(_ROOT),
    )
    self.assertEqual(result.returncode, 0, result.stderr)
    self.assertEqual(result.stdout, f"{variants.describe('photo_patches')}\n")

  def test_an_unknown_variant(self):
    result = run_main(variant=":adaptiv")
    self.assertEqual(result.returncode, 2)
    listed, line = result.stderr.split("\n\nerror: ")
    self.assertEqual(listed, variants.describe("photo_patches"))
    self.assertRegex(line, "^unknown variant 'adaptiv'.*mean adaptive.*\n$")

  def test_a_file_of_flags(self):
    path = self.create_tempfile(content="--config.num_stpes=5\n").full_path
    result = run_main(f"--flagfile={path}")
    self.assertEqual(result.returncode, 2)
    self.assertRegex(result.stderr, "^error: .*did you mean num_steps.*\n$")

  def test_no_such_config_file(self):
    result = run_main(variant="thon")
    self.assertEqual(result.returncode, 2)
    self.assertRegex(result.stderr, "^error: --config cannot be read.*\n$")

  @parameterized.parameters(
    ("--config=README.md", "--config=README.md cannot be used: .* Python file"),
    ("--config=tests", "--config cannot be read: .*tests"),
    ("--config.num_stpes=5", "no field 'num_stpes'; did you mean num_steps?"),
    (
      "--config.quantizer.num_stages=two",
      "num_stages is 'two'; .* an integer",
    ),
    ("--noconfig.seed", "config.seed is 'false'; .* an integer"),
    ("--config.data.image_size=30", "config.data.image_size is 30"),
    ("--config.quantizer.num_stages=0", "num_stages is 0"),
    ("--rate_weight=0.1", "--rate_weight is for --mode=encode"),
    (
      "--mode=encode --bits_per_pixel=1 --psnr=20",
      "--bits_per_pixel and --psnr are given together; give one",
    ),
    ("--mode=encode --psnr=nan", "--psnr is nan; it must be finite and 0 or"),
  )
  def test_bad_input_is_one_line_and_leaves_nothing(self, arguments, message):
    root = pathlib.Path(self.create_tempdir()) / "run"
    result = run_main(*arguments.split(), f"--workdir={root}")
    self.assertEqual(result.returncode, 2)
    self.assertRegex(result.stderr, f"^error: .*{message}.*\n$")
    self.assertFalse(root.exists())

  def test_evaluating_what_is_not_there(self):
    root = self.create_tempdir().full_path
    result = run_main("--mode=evaluate", f"--workdir={root}")
    self.assertEqual(result.returncode, 2)
    self.assertRegex(result.stderr, "^error: .* has no checkpoint yet")

  def test_a_platform_that_jax_lacks(self):
    root = pathlib.Path(self.create_tempdir()) / "run"
    result = run_main(f"--workdir={root}", JAX_PLATFORMS="cuda")
    self.assertEqual(result.returncode, 2)
    self.assertRegex(result.stderr, "^error: JAX_PLATFORMS is 'cuda', .*\n$")
    self.assertFalse(root.exists())

  @parameterized.parameters("encode", "decode")
  def test_what_encoding_needs(self, mode):
    result = run_main(f"--mode={mode}", "--input=x")
    self.assertEqual(result.returncode, 2)
    self.assertRegex(
      result.stderr, f"^error: --output is missing; --mode={mode} n"
    )
