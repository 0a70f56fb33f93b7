import pathlib

from absl.testing import parameterized

from experiments import files
from experiments.runs import workdir as workdirs
from experiments.study import rows as rows_lib
from tests.support import fake_runs


class RowsTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.create_tempdir())

  def rows(self, table, dataset="mnist", seeds=(0,)):
    return rows_lib.make(self.root, dataset, table, seeds)

  def write(self, trial, **figures):
    path = trial.workdir / workdirs.SUMMARY
    files.write_json(path, trial.summary | figures)

  def test_the_loss_of_either_way_of_evaluation(self):
    sampled = fake_runs.make(self.root, "mnist", "reference", loss=0.6)
    self.write(sampled, drawn=None, not_drawn={"recon_loss_sum": 0.9})
    fake_runs.make(self.root, "mnist", "adaptive", loss=0.4)
    fake_runs.make(self.root, "mnist", "improved", loss=0.3)
    by_variant = {row.variant: row for row in self.rows(5)}
    for variant, most_probable, drawn in (
      ("reference", 0.9, 0.6),
      ("adaptive", 0.4, 0.8),
    ):
      row = by_variant[variant]
      self.assertEqual(row.most_probable.mean, most_probable)
      self.assertEqual(row.drawn.mean, drawn)

  def test_the_loss_of_the_first_batch(self):
    trials = [
      fake_runs.make(self.root, "mnist", "fixed_512x128", seed)
      for seed in range(2)
    ]
    self.assertIsNone(self.rows(1)[0].first_batch)
    for trial, loss in zip(trials, (0.25, 1.25), strict=True):
      self.write(trial, recon_loss_first_batch=loss)
    self.assertEqual(self.rows(1)[0].first_batch.mean, 0.75)

  def test_table_2_says_what_the_best_is_chosen_from(self):
    fake_runs.make(self.root, "cifar10", "fixed_512x128")
    fixed, _ = self.rows(2, "cifar10")
    self.assertIn("of [1024,64], [2048,32],", fixed.status)

  def test_seeds_that_nobody_asked_for_count_too(self):
    for seed, loss in ((0, 0.3), (1, 0.5)):
      fake_runs.make(self.root, "mnist", "fixed_512x128", seed, loss)
    fake_runs.make(self.root, "mnist", "fixed_1024x64")
    rows = self.rows(1)
    self.assertEqual(rows[0].loss.text(3), "0.400 ± 0.141")
    self.assertEqual([row.status for row in rows[:2]], ["", ""])
