import contextlib
import io
import json
import pathlib
import re
import shutil
from unittest import mock

from absl.testing import parameterized
import matplotlib.pyplot as plt
import numpy as np

from experiments import figures
from experiments import files
from experiments import style
from experiments.configs import variant_table
from experiments.configs.variant_table import Variant
from experiments.errors import UserError
from experiments.runs import workdir as workdirs
from experiments.study import cells as cells_lib
from experiments.study import paper
from experiments.study import plots
from experiments.study import rate_distortion
from tests.support import fake_runs

NAMES = ["[512,128]", "[1024,64]", "[2048,32]", "[4096,16]", "[8192,8]"]
NAMES += ["[16384,4]", "[32768,2]", "[65536,1]"]


def labels(ax):
  return [line.get_label() for line in ax.get_lines()]


class FiguresTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.create_tempdir())

  def runs(self, dataset):
    runs = {}
    for cell in cells_lib.find_cells(self.root, dataset):
      runs.setdefault(cell.variant, []).append(cell)
    return runs

  def draw(self):
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
      figures.draw(self.root)
    return output.getvalue()

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
    self.assertEqual(re.findall('(?:src|href)="(?!data:)', page), [])
    self.assertIn("Table 2: The best fixed codebook", page)
    # Of table 3 there is only what table 2 has.
    self.assertNotIn("Table 3", page)
    text = (self.root / "mnist" / "table2.md").read_text()
    self.assertIn("0.200 ± 0.141", text)
    self.assertIn("<b>0.200 ± 0.141</b>", page)

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
    cell = fake_runs.make(self.root, "mnist", "adaptive", is_finished=False)
    gap = {"step": 1, "split": "train", "values": {"gradient_gap": 0.0}}
    (cell.workdir / workdirs.METRICS).write_text(json.dumps(gap) + "\n")
    output = self.draw()
    self.assertIn("figure6 of mnist: left out, needs the adaptive run", output)
    self.assertNotIn("Table 2", (self.root / "report.html").read_text())
    cell.failure.write_text("the loss is not finite\n")
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
        figures.draw(self.root)
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
    cell = fake_runs.make(self.root, "mnist", "adaptive")
    path = cell.workdir / name
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
    cell = fake_runs.make(self.root, "mnist", "fixed_512x128")
    path = cell.workdir / "metrics.jsonl"
    first, *others = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + b"\xff\n" + b"".join(others))
    said = self.draw()
    self.assertEqual(said.count("line 2: damaged (not UTF-8), left out\n"), 1)
    self.assertIn("line 2: damaged", (self.root / "report.html").read_text())
    self.assertIn("figure2_mnist.svg", said)

  def test_strange_directories_and_files_among_runs(self):
    fake_runs.make_table_1(self.root, "mnist")
    cell = fake_runs.make(self.root, "mnist", "adaptive")
    (cell.workdir / "seed_0").mkdir()
    cell.workdir.with_suffix(".log").mkdir()
    (self.root / "cifar10").touch()
    (self.root / "mnist" / "notes").mkdir()
    (self.root / "mnist" / "empty" / "seed_0").mkdir(parents=True)
    (self.root / "mnist" / "cnn").mkdir()
    (self.root / "mnist" / "cnn" / "seed_0").touch()
    self.draw()
    shutil.copytree(cell.workdir, self.root / "mnist" / "backup" / "seed_0")
    said, error = self.refused()
    self.assertIn("mnist/backup/seed_0: unknown variant 'backup'", error)
    for name in ("figure2_mnist", "figure6_mnist", "usage_mnist"):
      self.assertIn(f"{name}.svg", said)

  @parameterized.parameters(b"\xff\xfe no", b"", "directory")
  def test_whatever_says_why_a_run_failed(self, content):
    fake_runs.make_table_1(self.root, "mnist")
    cell = fake_runs.make(self.root, "mnist", "adaptive", is_finished=False)
    if content == "directory":
      cell.failure.mkdir()
    else:
      cell.failure.write_bytes(content)
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

  def test_a_file_instead_of_a_directory_of_runs(self):
    (self.root / "file").touch()
    with self.assertRaisesRegex(UserError, "file, which is no directory"):
      figures.draw(self.root / "file")

  def test_lines_that_do_not_fit_together(self):
    fake_runs.make_table_1(self.root, "mnist")
    cell = fake_runs.make(self.root, "mnist", "adaptive")
    path = cell.workdir / "metrics.jsonl"
    path.write_text(path.read_text().replace('"selection"', '"choice"'))
    said, error = self.refused()
    self.assertIn("no figure6_mnist: ", error)
    self.assertIn("usage_mnist.svg", said)

  def test_a_structure_looks_alike_whichever_others_there_are(self):
    for dataset, variants in (
      ("mnist", ("fixed_512x128", "fixed_2048x32")),
      ("cifar10", ("fixed_2048x32", "fixed_8192x8")),
    ):
      for variant in variants:
        fake_runs.make(self.root, dataset, variant)
    runs = {name: self.runs(name) for name in ("mnist", "cifar10")}
    figure = plots.gradient_gaps(runs)
    first, second = figure.axes
    self.assertEqual(
      first.get_lines()[1].get_color(), second.get_lines()[0].get_color()
    )
    (legend,) = figure.legends
    names = [text.get_text() for text in legend.get_texts()]
    self.assertEqual(names, ["[512,128]", "[2048,32]", "[8192,8]"])

  def test_curves_are_of_a_run_that_has_ended(self):
    fake_runs.make(self.root, "mnist", "fixed_512x128", seed=0, loss=0.1)
    for seed, is_finished in ((0, False), (1, True)):
      fake_runs.make(
        self.root, "mnist", "adaptive", seed, is_finished=is_finished
      )
    # Of a smaller gap, but it has not ended.
    fake_runs.make(
      self.root, "mnist", "fixed_1024x64", loss=0.01, is_finished=False
    )
    drawn = []
    comparison = plots.comparison
    with mock.patch.object(
      plots, "comparison", lambda runs: drawn.append(runs) or comparison(runs)
    ):
      self.draw()
    (runs,) = drawn[0].values()
    self.assertEqual([cell.seed for cell in runs["adaptive"]], [1, 0])
    gap, _ = plots.comparison({"mnist": runs}).axes
    self.assertEqual(
      labels(gap),
      ["smallest gap: [512,128]", "best fixed: [512,128]", "adaptive"],
    )

  def test_without_coded_rates(self):
    cell = fake_runs.make(self.root, "mnist", "fixed_512x128")
    summary = cell.summary
    del summary["rate_coded"]
    files.write_json(cell.workdir / workdirs.SUMMARY, summary)
    self.draw()

  def test_a_directory_without_runs(self):
    with self.assertRaisesRegex(UserError, "holds no runs"):
      self.draw()

  def test_series(self):
    fake_runs.make_table_1(self.root, "mnist")
    adaptive = fake_runs.make(self.root, "mnist", "adaptive", loss=0.1)
    runs = self.runs("mnist")
    with self.subTest("figure 2"):
      gap, loss = plots.gap_and_loss(runs).axes
      self.assertEqual(labels(gap), NAMES)
      self.assertEqual(labels(loss), NAMES)
      x, y = gap.get_lines()[1].get_data()
      np.testing.assert_array_equal(x, [51, 101, 151, 201])
      np.testing.assert_allclose(
        y, runs["fixed_1024x64"][0].summary["recon_loss_sum"] / (x - 1)
      )
    with self.subTest("figure 6"):
      (ax,) = plots.selection(runs).axes
      self.assertEqual(labels(ax), NAMES)
      x, y = ax.get_lines()[7].get_data()
      np.testing.assert_array_equal(x, [50, 100, 150, 200])
      np.testing.assert_allclose(y, np.full(4, 8 / 36))
    with self.subTest("figure 4"):
      gap, loss = plots.comparison({"mnist": runs}).axes
      # The fake gaps are proportional to the losses.
      expected = ["smallest gap: [8192,8]", "best fixed: [8192,8]", "adaptive"]
      self.assertEqual(labels(gap), expected)
      self.assertEqual(labels(loss), expected)
      np.testing.assert_allclose(
        loss.get_lines()[2].get_ydata()[0], 4.5 / 8 / 50
      )
      self.assertLen(loss.collections, 1)  # the pool's range
    with self.subTest("figure 7"):
      (ax,) = plots.gradient_gaps({"mnist": runs}).axes
      self.assertEqual(labels(ax), NAMES)
      np.testing.assert_array_equal(
        ax.get_lines()[7].get_xdata(), [51, 101, 151, 201]
      )
    with self.subTest("figure 8"):
      cell = fake_runs.make(
        self.root, "cifar10", "fixed_512x128", num_steps=1100
      )
      (ax,) = plots.gaps_without_start({"": {cell.variant: [cell]}}).axes
      np.testing.assert_array_equal(
        ax.get_lines()[0].get_xdata(), [1001, 1051, 1101]
      )
    with self.subTest("loss against N"):
      (ax,) = plots.loss_against_size(runs).axes
      text = labels(ax)
      self.assertEqual(text[:2], ["measured", "paper"])
      self.assertIn("$R^2$", text[2])
      np.testing.assert_array_equal(
        ax.get_lines()[0].get_xdata(), 2 ** np.arange(9, 17)
      )
    with self.subTest("rate and distortion"):
      nominal, coded = rate_distortion.draw(runs).axes
      self.assertEqual(labels(nominal), ["fixed", "adaptive"])
      self.assertLen(nominal.get_lines()[0].get_xdata(), 8)
      np.testing.assert_allclose(coded.get_lines()[1].get_xdata(), [11.5])
      self.assertIn("65536,1", [text.get_text() for text in nominal.texts])
    with self.subTest("rate and distortion, improved"):
      for i, variant in enumerate(
        (
          "improved",
          "improved_rate_1e-3",
          "improved_fixed_8192x32",
          "cnn",
          "reference",
        )
      ):
        fake_runs.make(self.root, "mnist", variant, loss=0.1 + 0.1 * i)
      nominal, improved, *_ = rate_distortion.draw(self.runs("mnist")).axes
      self.assertEqual(
        labels(nominal),
        [
          "fixed",
          "adaptive",
          "fixed, improved",
          "adaptive, improved, by price of bits",
          "adaptive, variants of table 3",
          "adaptive, other variants",
        ],
      )
      for curve in (nominal.get_lines()[3], improved.get_lines()[1]):
        np.testing.assert_allclose(curve.get_ydata(), [0.1, 0.2])
        self.assertEqual(curve.get_linestyle(), "-")
      shown = [text.get_text() for text in nominal.texts]
      self.assertIn("reference", shown)
      self.assertNoCommonElements(shown, ["cnn", "improved"])
      shown = [text.get_text() for text in improved.texts]
      self.assertCountEqual(shown, ["8192,32", "improved", "rate_1e-3"])
    with self.subTest("losses and rates are means over seeds"):
      fake_runs.make(self.root, "mnist", "improved", seed=1, loss=0.3)
      fake_runs.make(self.root, "mnist", "fixed_512x128", seed=1, loss=3.0)
      first = runs["fixed_512x128"][0].summary["recon_loss_sum"]
      runs = self.runs("mnist")
      nominal, *_ = rate_distortion.draw(runs).axes
      np.testing.assert_allclose(nominal.get_lines()[3].get_ydata(), [0.2, 0.2])
      (ax,) = plots.loss_against_size(runs).axes
      self.assertAlmostEqual(
        ax.get_lines()[0].get_ydata()[0], (first + 3.0) / 2
      )
    with self.subTest("usage"):
      second = runs["fixed_512x128"][1]
      summary = second.summary | {"usage": 0.75}
      files.write_json(second.workdir / workdirs.SUMMARY, summary)
      (ax,) = plots.usage(runs).axes
      heights = [patch.get_height() for patch in ax.patches]
      np.testing.assert_allclose(heights, [50.0] + [25.0] * 7 + [50.0] * 8)
    with self.subTest("figure 5"):
      (ax,) = plots.reconstructions(runs).axes
      self.assertEqual(ax.images[0].get_array().shape[:2], (40, 160))
    self.assertEqual(adaptive.status(), "finished")

  def test_nothing_is_read_from_the_name_of_a_variant(self):
    known = {
      name: Variant(
        f"title {name}",
        group,
        {"quantizer.structures": (structure,), "quantizer.kind": "fixed"},
        label=f"label {name}",
      )
      for name, group, structure in (
        ("fixed_1x1", "improved_fixed", (512, 128)),
        ("adaptive_rate", "improved", (2048, 32)),
        ("improved_fixed_8x8", "adaptive", (4096, 16)),
      )
    }
    self.enter_context(mock.patch.dict(variant_table.VARIANTS, known))
    self.enter_context(
      mock.patch.dict(paper.TABLE_1, {name: (0.5,) * 6 for name in known})
    )
    for i, name in enumerate(known):
      fake_runs.make(self.root, "mnist", name, loss=0.2 + 0.1 * i)
    runs = self.runs("mnist")
    _, improved, *_ = rate_distortion.draw(runs).axes
    self.assertEqual(
      labels(improved),
      ["fixed, improved", "adaptive, improved, by price of bits"],
    )
    self.assertCountEqual(
      [text.get_text() for text in improved.texts],
      ["label fixed_1x1", "label adaptive_rate"],
    )
    (ax,) = plots.gradient_gaps({"mnist": runs}).axes
    self.assertEqual(labels(ax), [f"title {name}" for name in known])
    (ax,) = plots.loss_against_size(runs).axes
    np.testing.assert_array_equal(
      ax.get_lines()[0].get_xdata(), [512, 2048, 4096]
    )
    plt.close("all")

  def test_texts_cover_nothing(self):
    figure, ax = plt.subplots()
    points = {f"{x:.3f}": (x, x) for x in np.linspace(1.0, 1.03, 5)}
    ax.plot(*zip(*points.values(), strict=True), "o")
    ax.set(xlim=(0.5, 1.5), ylim=(0.5, 1.5), xscale="log")
    style.label_points(ax, points)
    boxes = [text.get_window_extent() for text in ax.texts]
    for i, box in enumerate(boxes):
      self.assertEqual(box.count_overlaps(boxes[:i] + boxes[i + 1 :]), 0)
      pixels = ax.transData.transform(list(points.values()))
      self.assertEqual(box.count_contains(pixels), 0)
    plt.close(figure)
