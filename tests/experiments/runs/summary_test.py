import contextlib
import io
import json
import pathlib

from absl.testing import parameterized

from experiments import files
from experiments.runs import summary as summary_lib
from tests.support import fake_runs


class SummaryTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    root = pathlib.Path(self.create_tempdir())
    self.workdir = fake_runs.make(root, "mnist", "adaptive").workdir
    self.path = self.workdir / "summary.json"
    self.figures = json.loads(self.path.read_text())

  def write(self, **fields):
    files.write_json(self.path, self.figures | fields)

  def test_figures_come_back(self):
    self.assertEqual(
      summary_lib.read(self.workdir), summary_lib.Summary(self.figures)
    )
    self.path.unlink()
    self.assertEqual(summary_lib.read(self.workdir), summary_lib.Summary(None))

  def test_every_run_that_is_kept_here(self):
    root = pathlib.Path(__file__).parents[3] / "results"
    paths = list(root.rglob("summary.json"))
    self.assertNotEmpty(paths)
    for path in paths:
      summary = summary_lib.read(path.parent)
      self.assertEqual(summary.problem, "")
      # Or no run of today could join its table.
      self.assertEqual(summary.figures["version"], summary_lib.RESULTS_VERSION)

  @parameterized.parameters(
    "",
    "{",
    "[]",
    "7",
    "null",
    "{}",
    '{"steps": "many"}',
    '{"steps": 200}',
  )
  def test_what_is_no_summary(self, text):
    self.path.write_text(text)
    found = summary_lib.read(self.workdir)
    self.assertIsNone(found.figures)
    self.assertRegex(found.problem, rf"^{self.path} is damaged \(.*\)$")
    self.assertNotIn("\n", found.problem)
    self.assertIsNone(summary_lib.read_summary(self.workdir))

  @parameterized.parameters(
    {"psnr": None},
    {"recon_loss_sum": "small"},
    {"recon_loss_first_batch": "small"},
    {"rate_coded": []},
    {"ssim": "high"},
    {"curve": 3},
    {"curve": [{"rate_weight": 0.0, "rate_nominal": 12.0, "psnr": 20.0}]},
    {"codebooks": {}},
    {"codebooks": [1]},
    {"drawn": 3},
    {"drawn": {}},
    {"steps": 1.5},
  )
  def test_a_field_of_another_kind(self, **fields):
    self.write(**fields)
    ((name, _),) = fields.items()
    self.assertRegex(summary_lib.read(self.workdir).problem, name)

  def test_one_of_another_run(self):
    config = json.loads((self.workdir / "config.json").read_text())
    for ours in ("a" * 32, ""):
      files.write_json(self.workdir / "config.json", config | {"run_id": ours})
      self.write(run_id="b" * 32)
      found = summary_lib.read(self.workdir)
      self.assertIsNone(found.figures)
      self.assertTrue(found.is_foreign)
      self.assertRegex(found.problem, "summary.json is of another run, b{32}")
      self.write()  # of before
      self.assertEqual(summary_lib.read(self.workdir).figures, self.figures)

  def test_what_is_not_its_own_is_moved_aside_not_overwritten(self):
    self.path.unlink()
    self.path.mkdir()
    (self.path / "mine").write_text("years of work")
    with contextlib.redirect_stdout(io.StringIO()) as output:
      summary_lib.write_summary(self.workdir, self.figures)
    self.assertRegex(output.getvalue(), "is no file.*: now .*damaged/summary")
    kept = self.workdir / "damaged" / "summary.json" / "mine"
    self.assertEqual(kept.read_text(), "years of work")
    self.assertEqual(summary_lib.read_summary(self.workdir), self.figures)
