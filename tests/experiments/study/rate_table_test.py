import csv
import pathlib

from absl.testing import parameterized

from experiments.errors import UserError
from experiments.study import rate_table
from tests.support import fake_runs


class RateTableTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.create_tempdir())

  def make(self, variant, seed, rate, psnr, **fields):
    figures = {"rate_nominal": rate, "rate_coded": rate, "psnr": psnr}
    fake_runs.make(self.root, "mnist", variant, seed, figures=figures, **fields)

  def make_families(self):
    self.make("improved_fixed_8192x32", 0, 13.0, 28.0)
    self.make("improved_fixed_32x32", 0, 5.0, 20.0)
    self.make("improved_rate_1e-3", 0, 4.5, 20.0)
    for seed in range(2):
      self.make("improved", seed, 11.7, 28.0)
    self.make("adaptive", 0, 12.0, 20.0)

  def test_markdown(self):
    self.make_families()
    families = rate_table.make(self.root, "mnist")
    self.assertEqual(
      rate_table.markdown("mnist", 8, families),
      """\
Table 8: BD-rate of families against fixed codebooks trained in the same way, \
mnist; 200 updates of batch 64; adaptive has no BD-rate: the reference has 0 \
of 2 points that a curve needs

|  | against | points | bits/position | PSNR (dB) | BD-rate | entropy-coded \
| its PSNR (dB) | its BD-rate | seeds |
|---|---|---|---|---|---|---|---|---|---|
| adaptive | - | 1 | 12.00 to 12.00 | - | - | 12.00 to 12.00 | - | - | 1 |
| adaptive, improved, by price of bits | [32,32], [8192,32] | 2 \
| 4.50 to 11.70 | 20.00 to 28.00 | -10.0% | 4.50 to 11.70 | 20.00 to 28.00 \
| **-10.0%** | 1 to 2 |
""",
    )
    self.assertEqual(
      rate_table.shown(families), {"adaptive, improved, by price of bits"}
    )
    self.assertIn(
      r"& -10.0\% & 4.50 to 11.70 & 20.00 to 28.00 & \textbf{-10.0\%} & ",
      rate_table.latex("mnist", 8, families),
    )

  def test_comma_separated(self):
    self.make_families()
    text = rate_table.comma_separated(rate_table.make(self.root, "mnist"))
    adaptive, improved = csv.DictReader(text.splitlines())
    self.assertEqual(adaptive["rate_coded_bd_rate"], "")
    self.assertStartsWith(adaptive["rate_coded_problem"], "the reference has 0")
    self.assertEqual(improved["rate_coded_bd_rate"], "-10")
    self.assertEqual(improved["rate_nominal_from"], "4.5")
    self.assertEqual(improved["rate_nominal_psnr_to"], "28")
    self.assertEqual(improved["against"], "[32,32], [8192,32]")
    self.assertEqual(improved["rate_nominal_problem"], "")

  def test_families_of_runs_that_have_not_ended(self):
    self.make("improved", 0, 12.0, 20.0, is_finished=False)
    self.make("fixed_512x128", 0, 9.0, 20.0)
    self.assertEmpty(rate_table.make(self.root, "mnist"))

  def test_runs_that_differ(self):
    self.make("improved_fixed_32x32", 0, 5.0, 20.0)
    self.make("cnn", 0, 5.0, 20.0, num_steps=300)  # of no family
    self.make("improved", 0, 5.0, 20.0)
    self.assertLen(rate_table.make(self.root, "mnist"), 1)
    self.make("improved_fixed_512x32", 0, 5.0, 20.0, num_steps=300)
    with self.assertRaisesRegex(UserError, "disagree on num_steps"):
      rate_table.make(self.root, "mnist")
