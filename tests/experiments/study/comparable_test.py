import pathlib

from absl.testing import parameterized

from experiments.errors import UserError
from experiments.study import comparable
from experiments.study.cells import find_cells
from tests.support import fake_runs


class CheckAlikeTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.create_tempdir())

  @parameterized.parameters(
    ({"num_steps": 300}, "num_steps: 200 in .*512x128.*; 300 in .*1024x64"),
    ({"batch_size": 32}, "batch_size: 'the default' in .*; 32 in"),
    ({"learning_rate": 1.0}, "learning_rate"),
    ({"data.image_size": 24}, "data.image_size"),
    ({"version": "2.0"}, "version: '1.0' in .*; '2.0' in"),
    ({"data.paper_batch_size": 8}, "data.paper_batch_size"),
    ({"rate_examples": 5}, "rate_examples"),
  )
  def test_runs_that_differ_in_more_are_named(self, fields, message):
    cells = [
      fake_runs.make(self.root, "mnist", "fixed_512x128"),
      fake_runs.make(self.root, "mnist", "fixed_1024x64", **fields),
    ]
    with self.assertRaisesRegex(UserError, f"disagree on {message}"):
      comparable.check_alike(cells)

  def test_runs_that_differ_in_a_field_that_their_variants_lack(self):
    cells = [
      fake_runs.make(
        self.root,
        "mnist",
        variant,
        **{
          "quantizer.choice": "distortion",
          "quantizer.choice.rate_weight": price,
        },
      )
      for variant, price in (("w_4096", 0.0), ("w_8192", 0.1))
    ]
    with self.assertRaisesRegex(UserError, "on quantizer.choice.rate_weight: "):
      comparable.check_alike(cells)

  def test_what_does_not_change_a_result_may_differ(self):
    fake_runs.make(self.root, "mnist", "fixed_512x128")
    fake_runs.make(self.root, "mnist", "fixed_1024x64", log_every=7)
    cells = find_cells(self.root, "mnist")
    self.assertLen(cells, 2)
    comparable.check_alike(cells)


class DifferencesTest(parameterized.TestCase):
  def test_fields_that_figures_depend_on(self):
    root = pathlib.Path(self.create_tempdir())
    cell = fake_runs.make(root, "mnist", "fixed_512x128", log_every=7)
    config = cell.config
    config.seed, config.log_every = 5, 9
    self.assertEqual(comparable.differences(cell, config), [])
    config.num_steps, config.batch_size = 100, 8
    self.assertEqual(
      comparable.differences(cell, config),
      ["batch_size (64 there, 8 wanted)", "num_steps (200 there, 100 wanted)"],
    )
