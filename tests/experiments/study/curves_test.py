import pathlib

from absl.testing import parameterized

from experiments.study import curves
from experiments.study.curves import Point
from tests.support import fake_runs


class CurvesTest(parameterized.TestCase):
  def make(self, *figures):
    """Makes a run with a seed of its own for each of some figures."""
    root = pathlib.Path(self.create_tempdir())
    return [
      fake_runs.make(root, "mnist", "improved", seed, figures=of_one)
      for seed, of_one in enumerate(figures)
    ]

  def test_a_point_is_the_mean_over_seeds(self):
    trials = self.make(
      {"rate_nominal": 11.0, "recon_loss_sum": 0.25, "psnr": 20.0},
      {"rate_nominal": 12.0, "recon_loss_sum": 0.75, "psnr": 24.0},
    )
    self.assertFalse(curves.is_priced(trials))
    self.assertEqual(
      curves.points(trials, "rate_nominal"), [Point(11.5, 0.5, 22.0)]
    )

  def test_a_priced_model_has_a_point_at_each_price(self):
    trials = self.make(
      {"curve": fake_runs.curve((0.0, 14.0, 30.0), (0.1, 8.0, 20.0))},
      {"curve": fake_runs.curve((0.0, 13.0, 30.0), (0.1, 6.0, 20.0))},
      {},  # one that was not evaluated so
    )
    self.assertTrue(curves.is_priced(trials))
    dear, cheap = curves.points(trials, "rate_coded")
    self.assertEqual((dear.rate, cheap.rate), (12.5, 6.0))
    self.assertEqual((dear.psnr, cheap.psnr), (30.0, 20.0))
    self.assertAlmostEqual(cheap.loss, 1.0)

  def test_runs_without_a_rate_have_no_point(self):
    (trial,) = self.make({"rate_coded": None})
    self.assertEmpty(curves.points([trial], "rate_coded"))
    self.assertLen(curves.points([trial], "rate_nominal"), 1)
