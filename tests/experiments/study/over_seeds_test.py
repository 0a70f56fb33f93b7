import math
import pathlib

from absl.testing import parameterized

from experiments.study import over_seeds
from tests.support import fake_runs


class OverSeedsTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    root = pathlib.Path(self.create_tempdir())
    self.trials = [
      fake_runs.make(root, "mnist", "adaptive", seed, loss)
      for seed, loss in enumerate((0.25, 0.75))
    ]

  def test_mean_and_deviation(self):
    loss = over_seeds.statistic(self.trials, "recon_loss_sum")
    self.assertEqual(loss.values, (0.25, 0.75))
    self.assertEqual(loss.mean, 0.5)
    self.assertAlmostEqual(loss.std, math.sqrt(0.125))
    self.assertEqual(loss.text(2), "0.50 ± 0.35")
    self.assertEqual(over_seeds.mean_loss(self.trials), 0.5)

  def test_one_run_has_no_deviation(self):
    loss = over_seeds.statistic(self.trials[:1], "recon_loss_sum")
    self.assertIsNone(loss.std)
    self.assertEqual(loss.text(2), "0.25")

  def test_a_figure_within_another(self):
    drawn = over_seeds.statistic(self.trials, "drawn", "recon_loss_sum")
    self.assertEqual(drawn.values, (0.5, 1.5))

  def test_a_figure_that_no_run_has(self):
    self.assertIsNone(over_seeds.statistic(self.trials, "not_drawn", "mse"))
    self.assertTrue(math.isnan(over_seeds.mean(self.trials, "fid")))
