"""A run's directory that tests claim."""

import pathlib

from absl.testing import parameterized

from experiments.runs import claims
from tests.support import tiny


class ClaimedCase(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.create_tempdir()) / "run"

  def claim(self, **fields):
    with claims.claim(self.root, tiny.config(**fields)):
      pass
