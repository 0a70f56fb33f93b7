import pathlib

from absl.testing import parameterized

from experiments import figures
from experiments.errors import UserError


class FiguresTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.create_tempdir())

  def test_a_file_instead_of_a_directory_of_runs(self):
    (self.root / "file").touch()
    with self.assertRaisesRegex(UserError, "file, which is no directory"):
      figures.draw(self.root / "file")

  def test_a_directory_without_runs(self):
    with self.assertRaisesRegex(UserError, "holds no runs"):
      figures.draw(self.root)
