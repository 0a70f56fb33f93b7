import pathlib

from absl.testing import parameterized
import numpy as np

from experiments.study import rate_distortion
from tests.support import charts
from tests.support import fake_runs


class RateDistortionTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.create_tempdir())

  def make(self):
    fake_runs.make_table_1(self.root, "mnist")
    fake_runs.make(self.root, "mnist", "adaptive", loss=0.1)

  def test_two_rates_of_each_variant(self):
    self.make()
    runs = fake_runs.by_variant(self.root, "mnist")
    nominal, coded = rate_distortion.draw(runs).axes
    self.assertEqual(charts.labels(nominal), ["fixed", "adaptive"])
    self.assertLen(nominal.get_lines()[0].get_xdata(), 8)
    np.testing.assert_allclose(coded.get_lines()[1].get_xdata(), [11.5])
    self.assertIn("65536,1", [text.get_text() for text in nominal.texts])

  def test_improved_variants_have_panels_of_their_own(self):
    self.make()
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
    nominal, improved, *_ = rate_distortion.draw(
      fake_runs.by_variant(self.root, "mnist")
    ).axes
    self.assertEqual(
      charts.labels(nominal),
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

  def test_a_priced_model_is_a_line_of_its_own(self):
    for variant, rate, psnr in (
      ("improved_fixed_32x32", 5.0, 20.0),
      ("improved_fixed_8192x32", 13.0, 30.0),
    ):
      figures = {"rate_nominal": rate, "rate_coded": rate - 1, "psnr": psnr}
      fake_runs.make(self.root, "mnist", variant, figures=figures)
    curve = fake_runs.curve((0.0, 11.7, 30.0), (1e-3, 4.5, 20.0))
    fake_runs.make(self.root, "mnist", "improved", figures={"curve": curve})
    figure = rate_distortion.draw(fake_runs.by_variant(self.root, "mnist"))
    nominal, beside, coded, _ = figure.axes
    for ax, rates in (
      (nominal, [4.5, 11.7]),
      (beside, [4.5, 11.7]),
      (coded, [3.5, 10.7]),
    ):
      fixed, priced = ax.get_lines()
      np.testing.assert_allclose(priced.get_xdata(), rates)
      np.testing.assert_allclose(priced.get_ydata(), [1, 0.1])
      self.assertEqual(priced.get_linestyle(), "-")
      self.assertEqual(fixed.get_label(), "fixed, improved")
      self.assertRegex(
        priced.get_label(),
        r"^Improved\n\(BD-rate -10.0% nominal, -\d+.\d% entropy-coded\)$",
      )
    self.assertNotIn("improved", [text.get_text() for text in beside.texts])

  def test_points_of_one_structure_all_have_texts(self):
    for variant in ("fixed_512x128", "improved_fixed_512x128"):
      fake_runs.make(self.root, "mnist", variant)
    nominal, improved, *_ = rate_distortion.draw(
      fake_runs.by_variant(self.root, "mnist")
    ).axes
    for ax in (nominal, improved):
      self.assertEqual([text.get_text() for text in ax.texts], ["512,128"])

  def test_a_point_is_the_mean_over_seeds(self):
    for seed, loss in enumerate((0.1, 0.3)):
      fake_runs.make(self.root, "mnist", "improved", seed, loss)
    nominal, *_ = rate_distortion.draw(
      fake_runs.by_variant(self.root, "mnist")
    ).axes
    np.testing.assert_allclose(nominal.get_lines()[0].get_ydata(), [0.2])

  def test_nothing_is_read_from_the_name_of_a_variant(self):
    charts.make_misnamed(self, self.root)
    runs = fake_runs.by_variant(self.root, "mnist")
    _, improved, *_ = rate_distortion.draw(runs).axes
    self.assertEqual(
      charts.labels(improved),
      ["fixed, improved", "adaptive, improved, by price of bits"],
    )
    self.assertCountEqual(
      [text.get_text() for text in improved.texts],
      ["label fixed_1x1", "label adaptive_rate"],
    )
