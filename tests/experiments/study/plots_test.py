import contextlib
import io
import pathlib
from unittest import mock

from absl.testing import parameterized
import matplotlib.pyplot as plt
import numpy as np

from experiments import files
from experiments.runs import workdir as workdirs
from experiments.study import drawing
from experiments.study import plots
from tests.support import charts
from tests.support import fake_runs


class PlotsTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.create_tempdir())

  def test_a_structure_looks_alike_whichever_others_there_are(self):
    for dataset, variants in (
      ("mnist", ("fixed_512x128", "fixed_2048x32")),
      ("cifar10", ("fixed_2048x32", "fixed_8192x8")),
    ):
      for variant in variants:
        fake_runs.make(self.root, dataset, variant)
    runs = {
      name: fake_runs.by_variant(self.root, name)
      for name in ("mnist", "cifar10")
    }
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
    with (
      mock.patch.object(
        plots, "comparison", lambda runs: drawn.append(runs) or comparison(runs)
      ),
      contextlib.redirect_stdout(io.StringIO()),
    ):
      drawing.draw(self.root)
    (runs,) = drawn[0].values()
    self.assertEqual([trial.seed for trial in runs["adaptive"]], [1, 0])
    gap, _ = plots.comparison({"mnist": runs}).axes
    self.assertEqual(
      charts.labels(gap),
      ["smallest gap: [512,128]", "best fixed: [512,128]", "adaptive"],
    )

  def test_series(self):
    fake_runs.make_table_1(self.root, "mnist")
    adaptive = fake_runs.make(self.root, "mnist", "adaptive", loss=0.1)
    runs = fake_runs.by_variant(self.root, "mnist")
    with self.subTest("figure 2"):
      gap, loss = plots.gap_and_loss(runs).axes
      self.assertEqual(charts.labels(gap), charts.NAMES)
      self.assertEqual(charts.labels(loss), charts.NAMES)
      x, y = gap.get_lines()[1].get_data()
      np.testing.assert_array_equal(x, [51, 101, 151, 201])
      np.testing.assert_allclose(
        y, runs["fixed_1024x64"][0].summary["recon_loss_sum"] / (x - 1)
      )
    with self.subTest("figure 6"):
      (ax,) = plots.selection(runs).axes
      self.assertEqual(charts.labels(ax), charts.NAMES)
      x, y = ax.get_lines()[7].get_data()
      np.testing.assert_array_equal(x, [50, 100, 150, 200])
      np.testing.assert_allclose(y, np.full(4, 8 / 36))
    with self.subTest("figure 4"):
      gap, loss = plots.comparison({"mnist": runs}).axes
      # The fake gaps are proportional to the losses.
      expected = ["smallest gap: [8192,8]", "best fixed: [8192,8]", "adaptive"]
      self.assertEqual(charts.labels(gap), expected)
      self.assertEqual(charts.labels(loss), expected)
      np.testing.assert_allclose(
        loss.get_lines()[2].get_ydata()[0], 4.5 / 8 / 50
      )
      self.assertLen(loss.collections, 1)  # the pool's range
    with self.subTest("figure 7"):
      (ax,) = plots.gradient_gaps({"mnist": runs}).axes
      self.assertEqual(charts.labels(ax), charts.NAMES)
      np.testing.assert_array_equal(
        ax.get_lines()[7].get_xdata(), [51, 101, 151, 201]
      )
    with self.subTest("figure 8"):
      trial = fake_runs.make(
        self.root, "cifar10", "fixed_512x128", num_steps=1100
      )
      (ax,) = plots.gaps_without_start({"": {trial.variant: [trial]}}).axes
      np.testing.assert_array_equal(
        ax.get_lines()[0].get_xdata(), [1001, 1051, 1101]
      )
    with self.subTest("loss against N"):
      (ax,) = plots.loss_against_size(runs).axes
      text = charts.labels(ax)
      self.assertEqual(text[:2], ["measured", "paper"])
      self.assertIn("$R^2$", text[2])
      np.testing.assert_array_equal(
        ax.get_lines()[0].get_xdata(), 2 ** np.arange(9, 17)
      )
    with self.subTest("losses are means over seeds"):
      fake_runs.make(self.root, "mnist", "fixed_512x128", seed=1, loss=3.0)
      first = runs["fixed_512x128"][0].summary["recon_loss_sum"]
      runs = fake_runs.by_variant(self.root, "mnist")
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
    known = charts.make_misnamed(self, self.root)
    runs = fake_runs.by_variant(self.root, "mnist")
    (ax,) = plots.gradient_gaps({"mnist": runs}).axes
    self.assertEqual(charts.labels(ax), [f"title {name}" for name in known])
    (ax,) = plots.loss_against_size(runs).axes
    np.testing.assert_array_equal(
      ax.get_lines()[0].get_xdata(), [512, 2048, 4096]
    )
    plt.close("all")
