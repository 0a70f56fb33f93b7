import contextlib
import io
import json
import pathlib
from unittest import mock

from absl.testing import parameterized

from experiments import files
from experiments.errors import UserError
from experiments.evaluation import run_evaluation
from experiments.runs import workdir as workdirs
from tests.support import untrained


class EvaluateTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.create_tempdir()) / "run"
    fields = untrained.ONE | {"rate_examples": 0, "batch_size": 240}
    self.config = untrained.make_run(self.root, fields)
    self.path = self.root / workdirs.EVALUATION

  def evaluate(self):
    output = io.StringIO()
    error = None
    with contextlib.redirect_stdout(output):
      try:
        run_evaluation.evaluate_run(self.config, self.root)
      except UserError as raised:
        error = str(raised)
    return output.getvalue(), error

  def test_what_cannot_be_saved_is_shown(self):
    said, error = self.evaluate()
    self.assertIsNone(error)
    saved = json.loads(self.path.read_text())
    before = sorted(self.root.rglob("*"))
    failure = OSError(30, "Read-only file system")
    with mock.patch.object(files, "write_json", side_effect=failure):
      said, error = self.evaluate()
    self.assertRegex(error, f"^{self.path} cannot be written")
    first, shown = said.split("\n", 1)
    self.assertRegex(first, "step 0  validation: mse .* psnr ")
    self.assertEqual(json.loads(shown), saved)
    self.assertEqual(sorted(self.root.rglob("*")), before)

  @parameterized.parameters("directory", "damaged", "foreign")
  def test_what_is_not_its_own_is_moved_aside(self, kind):
    content = {"damaged": "{", "foreign": '{"run_id": "b"}'}
    if kind == "directory":
      self.path.mkdir()
    else:
      self.path.write_text(content[kind])
    said, error = self.evaluate()
    self.assertIsNone(error)
    kept = self.root / "damaged" / self.path.name
    self.assertIn(f"{self.path} is ", said)
    self.assertIn(f"now {kept}\n", said)
    if kind == "directory":
      self.assertTrue(kept.is_dir())
    else:
      self.assertEqual(kept.read_text(), content[kind])
    self.assertEqual(json.loads(self.path.read_text())["steps"], 0)
