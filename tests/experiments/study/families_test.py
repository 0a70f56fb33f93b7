import pathlib

from absl.testing import parameterized

from experiments.study import families as families_lib
from experiments.study import trials as trials_lib
from tests.support import fake_runs

# Rates and PSNRs of fixed codebooks.
FIXED = {
  "improved_fixed_512x32": (9.0, 26.0),
  "improved_fixed_32x32": (5.0, 20.0),
  "improved_fixed_8192x32": (13.0, 29.0),
}


class FamiliesTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.create_tempdir())

  def make(self, variant, rate, psnr, **figures):
    own = {"rate_nominal": rate, "rate_coded": rate - 1, "psnr": psnr}
    fake_runs.make(self.root, "mnist", variant, figures=own | figures)

  def find(self):
    runs = fake_runs.by_variant(self.root, "mnist")
    return families_lib.find(trials_lib.ended(runs))

  def make_fixed(self):
    for variant, (rate, psnr) in FIXED.items():
      self.make(variant, rate, psnr)

  def test_a_family_is_compared_with_codebooks_trained_as_it_is(self):
    self.make_fixed()
    self.make("fixed_512x128", 9.0, 20.0)
    self.make("improved", 11.7, 29.0)
    self.make("improved_rate_1e-3", 4.5, 20.0)
    self.make("improved_rate_1e-4", 8.1, 26.0)
    fixed, improved_fixed, improved = self.find()
    for family in (fixed, improved_fixed):
      self.assertEmpty(family.references)
      self.assertIsNone(family.comparisons["rate_nominal"].percent)
    self.assertEqual(
      list(improved.references),
      [
        "improved_fixed_32x32",
        "improved_fixed_512x32",
        "improved_fixed_8192x32",
      ],
    )
    self.assertAlmostEqual(improved.comparisons["rate_nominal"].percent, -10)
    # 3.5, 7.1 and 10.7 bits beside 4, 8 and 12.
    self.assertBetween(improved.comparisons["rate_coded"].percent, -12.5, -10)

  def test_a_priced_model_is_a_family_of_its_own(self):
    self.make_fixed()
    points = [(0.0, 11.7, 29.0), (1e-4, 8.1, 26.0), (1e-3, 4.5, 20.0)]
    self.make("improved", 3.0, 29.0, curve=fake_runs.curve(*points))
    self.make("improved_rate_1e-3", 6.0, 20.0)
    _, others, priced = self.find()
    self.assertEqual(list(others.runs), ["improved_rate_1e-3"])
    self.assertIn("1 of 2 points", others.comparisons["rate_nominal"].problem)
    self.assertEqual(priced.series.label, "Improved")
    self.assertNotEqual(priced.series.number, others.series.number)
    self.assertAlmostEqual(priced.comparisons["rate_nominal"].percent, -10)
    (points,) = priced.points["rate_coded"].values()
    self.assertEqual([point.rate for point in points], [10.7, 7.1, 3.5])
