import pathlib

from absl.testing import parameterized

from experiments.study import contents
from experiments.study import table_list
from tests.support import fake_runs


class TableListTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.create_tempdir())

  def test_files(self):
    fake_runs.make(self.root, "mnist", "fixed_512x128")
    made = table_list.make(self.root, "mnist", 1, (0,))
    paths = table_list.write(self.root, "mnist", 1, made)
    self.assertEqual(
      [path.name for path in paths], ["table1.md", "table1.csv", "table1.tex"]
    )
    for path in paths:
      self.assertIn("512", path.read_text())

  def test_the_table_of_bd_rates(self):
    for variant, rate, psnr in (
      ("improved_fixed_32x32", 5.0, 20.0),
      ("improved_fixed_8192x32", 13.0, 28.0),
      ("improved", 11.7, 28.0),
      ("improved_rate_1e-3", 4.5, 20.0),
    ):
      figures = {"rate_nominal": rate, "rate_coded": rate, "psnr": psnr}
      fake_runs.make(self.root, "mnist", variant, figures=figures)
    made = table_list.make(self.root, "mnist", contents.RATES, (0,))
    self.assertNotEmpty(made.shown)
    for text in made.texts.values():
      self.assertIn("-10", text)

  def test_rows_that_have_figures_or_failed_are_shown(self):
    fake_runs.make(self.root, "mnist", "fixed_512x128")
    for variant in ("fixed_1024x64", "fixed_2048x32"):
      fake_runs.make(self.root, "mnist", variant, is_finished=False)
    trial = fake_runs.make(
      self.root, "mnist", "fixed_4096x16", is_finished=False
    )
    trial.failure.write_text("out of memory\n")
    made = table_list.make(self.root, "mnist", 1, (0,))
    self.assertEqual(made.shown, {"fixed_512x128", "fixed_4096x16"})
