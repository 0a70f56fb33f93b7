import contextlib
import io
import pathlib
from unittest import mock

from absl.testing import parameterized

from experiments.errors import UserError
from experiments.training import finish
from experiments.training import loop
from tests.support import tiny


class FinishTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.create_tempdir())

  def test_its_directory_goes_away_after_the_last_step(self):
    root, evaluate = self.root / "run", finish.judge

    def lose(*arguments):
      root.rename(self.root / "moved")
      return evaluate(*arguments)

    with mock.patch.object(finish, "judge", lose):
      with self.assertRaisesRegex(UserError, "run was moved, removed or repl"):
        loop.train_and_evaluate(tiny.config("fixed_16x4"), root)
    self.assertFalse(root.exists())

  def test_figures_that_cannot_be_saved_are_shown(self):
    output = io.StringIO()
    failure = OSError(28, "No space left on device")
    with (
      contextlib.redirect_stdout(output),
      mock.patch.object(finish, "write_summary", side_effect=failure),
      self.assertRaisesRegex(UserError, "run .*cannot go on.*No space left"),
    ):
      loop.train_and_evaluate(tiny.config("fixed_16x4"), self.root / "run")
    self.assertRegex(output.getvalue(), "validation psnr .* dB")
