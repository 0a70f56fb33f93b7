import contextlib
import io
import json
import pathlib
import re
import shutil
from unittest import mock

from absl.testing import parameterized
import matplotlib.pyplot as plt

from experiments import files
from experiments.errors import UserError
from experiments.runs import workdir as workdirs
from experiments.study import drawing
from tests.support import fake_runs


class Case(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.create_tempdir())

  def draw(self):
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
      drawing.draw(self.root)
    return output.getvalue()


class CompleteTest(Case):
  def test_everything_from_complete_runs(self):
    for dataset in ("mnist", "cifar10"):
      fake_runs.make_table_1(self.root, dataset)
      fake_runs.make(self.root, dataset, "adaptive", loss=0.1)
    fake_runs.make(self.root, "mnist", "adaptive", seed=1, loss=0.3)
    self.draw()
    names = {path.name for path in (self.root / "figures").iterdir()}
    expected = {"figure3_cifar10", "figure6_mnist"}
    expected |= {"figure7", "figure8", "figure9"}
    for dataset in ("mnist", "cifar10"):
      for name in ("figure2", "figure4", "figure5", "loss_against_size"):
        expected.add(f"{name}_{dataset}")
      expected |= {f"rate_distortion_{dataset}", f"usage_{dataset}"}
    self.assertEqual(
      names, {f"{name}.{kind}" for name in expected for kind in ("svg", "png")}
    )
    page = (self.root / "report.html").read_text()
    self.assertEqual(page.count("<img"), len(expected))
    captions = re.findall("<figcaption>(Figure .|\\w+)", page)
    self.assertCountEqual(
      captions,
      [f"Figure {number}" for number in (2, 2, 3, 4, 4, 5, 5, 6, 7, 8, 9)]
      + ["Loss", "Loss", "Codewords"] * 2,
    )
    without = re.sub("<img src='data:[^']*'", "", page)
    self.assertNotRegex(without, "src=|href=|url[(]")
    figures = self.root / "figures"
    sizes = [
      min(
        (figures / f"{name}.{kind}").stat().st_size for kind in ("svg", "png")
      )
      for name in expected
    ]
    # A URL is longer than the file; both files of a figure would be far longer.
    self.assertLess(len(page) - len(without), 1.34 * sum(sizes) + 1000)
    self.assertIn("Table 2: The best fixed codebook", page)
    # Of table 3 there is only what table 2 has.
    self.assertNotIn("Table 3", page)
    text = (self.root / "mnist" / "table2.md").read_text()
    self.assertIn("0.200 ± 0.141", text)
    self.assertIn("<b>0.200 ± 0.141</b>", page)


class DrawingTest(Case):
  """What is drawn and what is left out; pixels, which take long, are not."""

  def setUp(self):
    super().setUp()
    self.enter_context(
      mock.patch.object(
        plt.Figure, "savefig", lambda _, path, **kwargs: path.touch()
      )
    )

  def test_what_runs_are_not_enough_for_is_said(self):
    fake_runs.make(self.root, "mnist", "fixed_512x128", is_finished=False)
    output = self.draw()
    self.assertIn("figure2_mnist.svg", output)
    self.assertIn("figure6 of mnist: left out, needs the adaptive run", output)
    self.assertIn(
      "loss_against_size of mnist: left out, needs 3 fixed codebooks finished,"
      " has 0",
      output,
    )
    self.assertNotIn("Table", (self.root / "report.html").read_text())

  def test_a_run_that_has_just_begun_or_failed_at_once(self):
    fake_runs.make(self.root, "mnist", "fixed_512x128")
    trial = fake_runs.make(self.root, "mnist", "adaptive", is_finished=False)
    gap = {"step": 1, "split": "train", "values": {"gradient_gap": 0.0}}
    (trial.workdir / workdirs.METRICS).write_text(json.dumps(gap) + "\n")
    output = self.draw()
    self.assertIn("figure6 of mnist: left out, needs the adaptive run", output)
    self.assertNotIn("Table 2", (self.root / "report.html").read_text())
    trial.failure.write_text("the loss is not finite\n")
    self.draw()
    self.assertIn("failed: the loss", (self.root / "report.html").read_text())

  def test_runs_that_differ_stop_nothing_else(self):
    fake_runs.make(self.root, "mnist", "fixed_512x128")
    fake_runs.make(self.root, "mnist", "fixed_1024x64", num_steps=300)
    fake_runs.make(self.root, "cifar10", "fixed_512x128")
    with self.assertRaisesRegex(
      UserError, "no table 1 of mnist: .*num_steps.*no figures of mnist: "
    ):
      self.draw()
    text = (self.root / "report.html").read_text()
    self.assertIn("<p>no table 1 of mnist: runs of one table disagree", text)
    self.assertIn("Table 1: Fixed codebooks, cifar10", text)
    names = {path.stem for path in (self.root / "figures").iterdir()}
    self.assertIn("figure2_cifar10", names)
    self.assertNotIn("figure2_mnist", names)

  def refused(self):
    """Draws, and returns what was said and the line at the end."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
      with self.assertRaises(UserError) as raised:
        drawing.draw(self.root)
    self.assertNotIn("\n", str(raised.exception))
    return output.getvalue(), str(raised.exception)

  @parameterized.parameters(
    ("summary.json", "damaged"),
    ("summary.json", "directory"),
    ("config.json", "damaged"),
    ("config.json", "directory"),
    ("config.json", "missing"),
    ("metrics.jsonl", "directory"),
    ("reconstructions.png", "damaged"),
    ("reconstructions.png", "missing"),
  )
  def test_a_file_of_a_run_that_cannot_be_used(self, name, how):
    fake_runs.make_table_1(self.root, "mnist")
    trial = fake_runs.make(self.root, "mnist", "adaptive")
    path = trial.workdir / name
    path.unlink()
    if how == "directory":
      path.mkdir()
    elif how == "damaged":
      path.write_text("{")
    if name == "metrics.jsonl":
      said = self.draw()  # its figures are there
    else:
      said, error = self.refused()
      self.assertIn(name, error)
    if name != "reconstructions.png":
      self.assertIn(name, (self.root / "report.html").read_text())
    for other in ("figure2_mnist", "loss_against_size_mnist", "figure9"):
      self.assertIn(f"{other}.svg", said)
    self.assertIn("Table 1", (self.root / "report.html").read_text())

  def test_a_damaged_line_of_a_log_is_named_and_the_rest_drawn(self):
    trial = fake_runs.make(self.root, "mnist", "fixed_512x128")
    path = trial.workdir / "metrics.jsonl"
    first, *others = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + b"\xff\n" + b"".join(others))
    said = self.draw()
    self.assertEqual(said.count("line 2: damaged (not UTF-8), left out\n"), 1)
    self.assertIn("line 2: damaged", (self.root / "report.html").read_text())
    self.assertIn("figure2_mnist.svg", said)

  def test_strange_directories_and_files_among_runs(self):
    fake_runs.make_table_1(self.root, "mnist")
    trial = fake_runs.make(self.root, "mnist", "adaptive")
    (trial.workdir / "seed_0").mkdir()
    trial.workdir.with_suffix(".log").mkdir()
    (self.root / "cifar10").touch()
    (self.root / "mnist" / "notes").mkdir()
    (self.root / "mnist" / "empty" / "seed_0").mkdir(parents=True)
    (self.root / "mnist" / "cnn").mkdir()
    (self.root / "mnist" / "cnn" / "seed_0").touch()
    self.draw()
    shutil.copytree(trial.workdir, self.root / "mnist" / "backup" / "seed_0")
    said, error = self.refused()
    self.assertIn("mnist/backup/seed_0: unknown variant 'backup'", error)
    for name in ("figure2_mnist", "figure6_mnist", "usage_mnist"):
      self.assertIn(f"{name}.svg", said)

  @parameterized.parameters(b"\xff\xfe no", b"", "directory")
  def test_whatever_says_why_a_run_failed(self, content):
    fake_runs.make_table_1(self.root, "mnist")
    trial = fake_runs.make(self.root, "mnist", "adaptive", is_finished=False)
    if content == "directory":
      trial.failure.mkdir()
    else:
      trial.failure.write_bytes(content)
    self.draw()
    page = (self.root / "report.html").read_text()
    self.assertRegex(page, "failed: (.* no|without a reason|.*cannot be read)")

  @parameterized.parameters(
    ("figures", "file"),
    ("report.html", "directory"),
    ("mnist/table1.md", "directory"),
    ("mnist/table1.tex", "directory"),
    ("figures/figure2_mnist.png", "directory"),
  )
  def test_a_place_that_cannot_be_written(self, name, kind):
    fake_runs.make_table_1(self.root, "mnist")
    path = self.root / name
    path.parent.mkdir(exist_ok=True)
    if kind == "file":
      path.touch()
    else:
      (path / "mine").mkdir(parents=True)
    said, error = self.refused()
    self.assertEqual(error.count("cannot be written"), 1, error)
    self.assertIn(name.split("/")[0], error)
    if name != "figures":
      self.assertIn("usage_mnist.svg", said)
    if name != "report.html":
      self.assertIn("report.html", said)
    self.assertEmpty(list(self.root.rglob("*.tmp")))

  def test_lines_that_do_not_fit_together(self):
    fake_runs.make_table_1(self.root, "mnist")
    trial = fake_runs.make(self.root, "mnist", "adaptive")
    path = trial.workdir / "metrics.jsonl"
    path.write_text(path.read_text().replace('"selection"', '"choice"'))
    said, error = self.refused()
    self.assertIn("no figure6_mnist: ", error)
    self.assertIn("usage_mnist.svg", said)

  def test_without_coded_rates(self):
    trial = fake_runs.make(self.root, "mnist", "fixed_512x128")
    summary = trial.summary
    del summary["rate_coded"]
    files.write_json(trial.workdir / workdirs.SUMMARY, summary)
    self.draw()
