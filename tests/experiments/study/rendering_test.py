import csv
import pathlib
from unittest import mock

from absl.testing import parameterized

from experiments import files
from experiments.configs import variant_table
from experiments.configs.variant_table import Variant
from experiments.runs import workdir as workdirs
from experiments.study import contents
from experiments.study import page
from experiments.study import rendering
from experiments.study import rows as rows_lib
from tests.support import fake_runs

# What changes evaluation and what is measured, and no training.
EVALUATING = {"reference_draw_in_evaluation", "reference_gradient_gap"}
SWITCHES = {
  name
  for name, variant in variant_table.VARIANTS.items()
  if len(variant.changes) == 1
  and variant.changes.items() <= variant_table.REFERENCE.items()
}


class RenderingTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.create_tempdir())

  def rows(self, table, dataset="mnist", seeds=(0,)):
    return rows_lib.make(self.root, dataset, table, seeds)

  def test_table_1(self):
    for i, variant in enumerate(("fixed_512x128", "fixed_1024x64")):
      for seed in range(2):
        fake_runs.make(
          self.root, "mnist", variant, seed, loss=0.3 - 0.1 * i + 0.01 * seed
        )
    failed = fake_runs.make(self.root, "mnist", "fixed_2048x32", loss=0.3)
    (failed.workdir / "summary.json").unlink()
    failed.failure.write_text("out of memory (exit code 1)\n")
    fake_runs.make(self.root, "mnist", "fixed_4096x16", is_finished=False)
    fake_runs.make(self.root, "mnist", "fixed_8192x8", loss=0.6)
    rows = self.rows(1, seeds=(0, 1))
    self.assertEqual(
      rendering.markdown("mnist", 1, rows),
      """\
Table 1: Fixed codebooks, mnist; 200 updates of batch 64; rank correlation \
with the paper -1.00

|  | recon_loss_sum | paper | ratio | most probable | drawn | bits/position | \
entropy-coded | PSNR (dB) | codewords used | seeds |
|---|---|---|---|---|---|---|---|---|---|---|
| [512,128] | 0.305 ± 0.007 | 0.285 | 1.07 |  |  | 12.00 ± 0.00 | 11.50 ± 0.00 \
| 20.30 ± 0.01 | 25% | 2 |
| [1024,64] | **0.205 ± 0.007** | 0.294 | 0.70 |  |  | 12.00 ± 0.00 | \
11.50 ± 0.00 | 20.20 ± 0.01 | 25% | 2 |
| [2048,32] | seed 0 failed: out of memory (exit code 1); seed 1 not run | \
0.291 |  |  |  |  |  |  |  |  |
| [4096,16] | seed 0 at step 100 of 200; seed 1 not run | 0.265 |  |  |  |  | \
 |  |  |  |
| [8192,8] | 0.600 | 0.240 | 2.50 |  |  | 12.00 | 11.50 | 20.60 | 25% | 1 \
(seed 1 not run) |
| [16384,4] | seed 0 not run; seed 1 not run | 0.210 |  |  |  |  |  |  |  |  |
| [32768,2] | seed 0 not run; seed 1 not run | 0.199 |  |  |  |  |  |  |  |  |
| [65536,1] | seed 0 not run; seed 1 not run | 0.377 |  |  |  |  |  |  |  |  |
""",
    )
    lines = rendering.comma_separated(rows).splitlines()
    self.assertEqual(
      lines[0],
      "variant,seeds,recon_loss_sum,std,paper,ratio,most_probable,drawn,"
      "rate_nominal,rate_coded,psnr,usage,status",
    )
    self.assertEqual(
      lines[2],
      "fixed_1024x64,2,0.205,0.00707107,0.294,0.697279,,,12,11.5,20.205,0.25,",
    )
    self.assertEqual(
      lines[4],
      "fixed_4096x16,0,,,0.265,,,,,,,,"
      "seed 0 at step 100 of 200; seed 1 not run",
    )
    latex = rendering.latex("mnist", 1, rows)
    self.assertIn(
      r"{[}1024,64] & \textbf{0.205 $\pm$ 0.007} & 0.294 & 0.70 & ", latex
    )
    self.assertIn(r"25\%", latex)
    self.assertIn(r"recon\_loss\_sum", latex)

  def test_table_2_has_the_best_fixed_codebook(self):
    fake_runs.make_table_1(self.root, "cifar10")
    fake_runs.make(self.root, "cifar10", "adaptive", loss=0.1)
    fixed, adaptive = self.rows(2, "cifar10")
    self.assertEqual(fixed.name, "Fixed codebook, the best: [8192,8]")
    self.assertEqual(fixed.paper, 0.503)
    self.assertEqual(adaptive.paper, 0.394)
    text = rendering.markdown("cifar10", 2, [fixed, adaptive])
    self.assertIn(
      "| Adaptive codebook | **0.100** | 0.394 | 0.25 | 0.100 | 0.200", text
    )

  def test_table_3_on_a_data_set_that_is_not_in_the_paper(self):
    fake_runs.make(self.root, "photo_patches", "alpha_0.5", loss=0.4)
    fake_runs.make(self.root, "photo_patches", "w_4096")
    rows = self.rows(3, "photo_patches")
    self.assertLen(rows, 16)
    self.assertEqual(
      [row.name for row in rows][:7],
      [
        "Base",
        "W = 32768",
        "W = 16384",
        "W = 8192",
        "W = 4096",
        "Without EMA",
        "alpha = 0.5",
      ],
    )
    text = rendering.markdown("photo_patches", 3, rows)
    self.assertIn("| alpha = 0.5 | **0.400** |  |  | 0.400 | 0.800 |", text)

  def test_small_losses_have_more_decimals(self):
    fake_runs.make(self.root, "photo_patches", "alpha_0.5", loss=0.01634)
    fake_runs.make(self.root, "photo_patches", "w_4096", loss=0.01628)
    rows = self.rows(3, "photo_patches")
    text = rendering.markdown("photo_patches", 3, rows)
    self.assertIn("| alpha = 0.5 | 0.0163 |  |  | 0.0163 | 0.0327 |", text)
    self.assertIn("| W = 4096 | **0.0163** |", text)
    latex = rendering.latex("photo_patches", 3, rows)
    self.assertIn("W = 4096 & \\textbf{0.0163} & ", latex)

  def test_table_4_has_what_the_paper_has_not(self):
    fake_runs.make(self.root, "fashion_mnist", "adaptive", loss=0.8)
    fake_runs.make(self.root, "fashion_mnist", "improved", loss=0.4)
    fake_runs.make(
      self.root, "fashion_mnist", "improved_fixed_8192x32", loss=0.5
    )
    text = rendering.markdown("fashion_mnist", 4, self.rows(4, "fashion_mnist"))
    self.assertIn("Table 4: Beyond the paper, fashion_mnist", text)
    self.assertIn("| Adaptive | 0.800 | 0.410 | 1.95 | 0.800 | 1.600 |", text)
    self.assertIn("| Improved | **0.400** |  |  | ", text)
    self.assertIn("| Improved, fixed [8192,32] | 0.500 |  |  |  |", text)

  def test_table_5_has_what_the_authors_code_changes(self):
    fake_runs.make(self.root, "cifar10", "adaptive", loss=0.8)
    fake_runs.make(self.root, "cifar10", "reference_selection_unit", loss=0.5)
    fake_runs.make(self.root, "cifar10", "reference", loss=0.6)
    rows = self.rows(5, "cifar10")
    self.assertLen(SWITCHES, len(variant_table.REFERENCE))
    self.assertCountEqual(
      [row.variant for row in rows],
      {"adaptive", "reference", "reference_flax_init"} | SWITCHES - EVALUATING,
    )
    text = rendering.markdown("cifar10", 5, rows)
    self.assertIn(
      "| As the paper's text | 0.800 | 0.394 | 2.03 | 0.800 | 1.600 |", text
    )
    self.assertIn("| Chosen by channels | **0.500** |  |  | 0.500 | 1.0", text)

  def test_a_row_is_called_what_its_table_says_or_else_its_variant(self):
    own = Variant("Own", "fixed", {"seed": 5})
    table = contents.Table("Rows", {"w_0": None, "adaptive": "The pool"})
    self.enter_context(mock.patch.dict(variant_table.VARIANTS, {"w_0": own}))
    self.enter_context(mock.patch.dict(contents.TABLES, {99: table}))
    self.assertEqual([row.name for row in self.rows(99)], ["Own", "The pool"])
    text = rendering.markdown("mnist", 99, self.rows(99))
    self.assertStartsWith(text, "Table 99: Rows, mnist\n")

  def test_table_1_has_the_authors_code_beside_it_where_it_was_run(self):
    for i, variant in enumerate(("fixed_512x128", "fixed_1024x64")):
      fake_runs.make(self.root, "mnist", variant, loss=0.5 + 0.1 * i)
    columns = "| the authors' code | that ratio | its codewords used |"
    rows = self.rows(1)
    self.assertNotIn(columns, rendering.markdown("mnist", 1, rows))
    self.assertNotIn("authors_code", rendering.comma_separated(rows))
    fake_runs.make(self.root, "mnist", "reference_fixed_512x128", loss=0.57)
    fake_runs.make(
      self.root, "mnist", "reference_fixed_1024x64", is_finished=False
    )
    rows = self.rows(1)
    text = rendering.markdown("mnist", 1, rows)
    self.assertIn(columns, text)
    own, other, *_ = text.split("|---|\n")[1].splitlines()
    self.assertStartsWith(own, "| [512,128] | **0.500** | 0.285 | 1.75 |")
    self.assertEndsWith(own, "| 0.570 | 2.00 | 25% | 1 |")
    self.assertEndsWith(other, "|  |  |  | 1 |")
    first, *_ = csv.DictReader(rendering.comma_separated(rows).splitlines())
    self.assertEqual(first["authors_code"], "0.57")
    self.assertEqual(first["authors_code_ratio"], "2")

  def test_both_ways_of_evaluation(self):
    reference = fake_runs.make(self.root, "mnist", "reference", loss=0.6)
    # It draws, and the other way is beside it.
    other = {"drawn": None, "not_drawn": {"recon_loss_sum": 0.9}}
    files.write_json(
      reference.workdir / workdirs.SUMMARY, reference.summary | other
    )
    text = rendering.markdown("mnist", 5, self.rows(5))
    self.assertIn(
      "| As the authors' code | **0.600** |  |  | 0.900 | 0.600 |", text
    )

  def test_the_loss_of_the_first_batch_where_a_run_has_it(self):
    for variant, loss, first in (
      ("fixed_512x128", 0.3, 0.57),
      ("fixed_1024x64", 0.4, 0.441),
      ("fixed_2048x32", 0.5, None),  # an older run
      ("fixed_65536x1", 0.6, 0.754),
    ):
      trial = fake_runs.make(self.root, "mnist", variant, loss=loss)
      known = {} if first is None else {"recon_loss_first_batch": first}
      files.write_json(trial.workdir / workdirs.SUMMARY, trial.summary | known)
    rows = self.rows(1)
    lines = rendering.markdown("mnist", 1, rows).splitlines()
    # Of 0.285, 0.294, 0.291 and 0.377, and of these without the third.
    self.assertEndsWith(
      lines[0], "; rank correlation with the paper 0.80, first batch 0.50"
    )
    self.assertStartsWith(
      lines[2],
      "|  | recon_loss_sum | paper | ratio | recon_loss_first_batch | its rat",
    )
    self.assertStartsWith(
      lines[4], "| [512,128] | **0.300** | 0.285 | 1.05 | 0.570 | 2.00 |  |  |"
    )
    self.assertStartsWith(
      lines[6], "| [2048,32] | 0.500 | 0.291 | 1.72 |  |  |  |  | 12.00 |"
    )
    for line in lines[3:]:
      self.assertEqual(line.count("|"), lines[2].count("|"))
    latex = rendering.latex("mnist", 1, rows)
    self.assertIn(r" & ratio & recon\_loss\_first\_batch & its ratio & ", latex)
    self.assertIn("0.285 & 1.05 & 0.570 & 2.00 &  &  & ", latex)
    widest, second, *_ = csv.DictReader(
      rendering.comma_separated(rows).splitlines()
    )
    self.assertEqual(
      (widest["recon_loss_first_batch"], widest["first_batch_ratio"]),
      ("0.57", "2"),
    )
    self.assertEqual(second["variant"], "fixed_1024x64")
    self.assertEqual(second["first_batch_ratio"], "1.5")

  def test_ssim_where_a_run_has_it(self):
    fake_runs.make(self.root, "mnist", "fixed_512x128")
    self.assertNotIn("SSIM", rendering.markdown("mnist", 1, self.rows(1)))
    self.assertNotIn("ssim", rendering.comma_separated(self.rows(1)))
    fake_runs.make(
      self.root, "mnist", "fixed_1024x64", loss=0.4, figures={"ssim": 0.87654}
    )
    rows = self.rows(1)
    lines = rendering.markdown("mnist", 1, rows).splitlines()
    self.assertIn("| PSNR (dB) | SSIM | codewords used |", lines[2])
    self.assertIn("| 20.50 |  | 25% |", lines[4])
    self.assertIn("| 20.40 | 0.8765 | 25% |", lines[5])
    self.assertIn(r"& SSIM & codewords used", rendering.latex("mnist", 1, rows))
    older, newer, *_ = csv.DictReader(
      rendering.comma_separated(rows).splitlines()
    )
    self.assertEqual((older["ssim"], newer["ssim"]), ("", "0.87654"))
    self.assertEqual(newer["usage"], "0.25")

  def test_two_rows_have_no_rank_correlation(self):
    for variant in ("fixed_512x128", "fixed_1024x64"):
      fake_runs.make(self.root, "mnist", variant)
    fake_runs.make(self.root, "mnist", "fixed_2048x32", loss=float("nan"))
    self.assertNotIn("rank", rendering.markdown("mnist", 1, self.rows(1)))

  def test_a_loss_that_is_no_number(self):
    fake_runs.make(self.root, "mnist", "fixed_512x128", loss=float("nan"))
    fake_runs.make(self.root, "mnist", "fixed_1024x64", loss=0.4)
    text = rendering.markdown("mnist", 1, self.rows(1))
    self.assertIn("| [512,128] | nan | ", text)
    self.assertIn("| [1024,64] | **0.400** | ", text)

  def test_whatever_a_failure_says(self):
    failed = fake_runs.make(self.root, "mnist", "fixed_512x128")
    (failed.workdir / "summary.json").unlink()
    failed.failure.write_text("a|b {c} 5% #1 ^ ~ \\ [x]\n")
    rows = self.rows(1)
    self.assertTrue(rows[0].has_failed)
    text = rendering.markdown("mnist", 1, rows)
    self.assertIn(r"| seed 0 failed: a\|b {c} 5% #1 ^ ~ \ [x] |", text)
    latex = rendering.latex("mnist", 1, rows)
    self.assertIn(
      r"a|b \{c\} 5\% \#1 \textasciicircum{} \textasciitilde{}"
      r" \textbackslash{} {[}x] & ",
      latex,
    )
    drawn = page.make(self.root, {"mnist": [text]}, {}, ["<why>"])
    self.assertIn("<td>seed 0 failed: a|b {c} 5% #1 ^ ~ \\ [x]</td>", drawn)
    self.assertIn("&lt;why&gt;", drawn)
