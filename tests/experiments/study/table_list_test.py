import pathlib

from absl.testing import parameterized

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
