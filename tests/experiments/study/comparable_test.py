import pathlib

from absl.testing import parameterized

from experiments.errors import UserError
from experiments.study import comparable
from experiments.study.trials import find_trials
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
    trials = [
      fake_runs.make(self.root, "mnist", "fixed_512x128"),
      fake_runs.make(self.root, "mnist", "fixed_1024x64", **fields),
    ]
    with self.assertRaisesRegex(UserError, f"disagree on {message}"):
      comparable.check_alike(trials)

  def test_runs_that_differ_in_a_field_that_their_variants_lack(self):
    trials = [
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
      comparable.check_alike(trials)

  def test_what_does_not_change_a_result_may_differ(self):
    fake_runs.make(self.root, "mnist", "fixed_512x128")
    fake_runs.make(self.root, "mnist", "fixed_1024x64", log_every=7)
    trials = find_trials(self.root, "mnist")
    self.assertLen(trials, 2)
    comparable.check_alike(trials)


class DifferencesTest(parameterized.TestCase):
  def test_fields_that_figures_depend_on(self):
    root = pathlib.Path(self.create_tempdir())
    trial = fake_runs.make(root, "mnist", "fixed_512x128", log_every=7)
    config = trial.config
    config.seed, config.log_every = 5, 9
    self.assertEqual(comparable.differences(trial, config), [])
    config.num_steps, config.batch_size = 100, 8
    self.assertEqual(
      comparable.differences(trial, config),
      ["batch_size (64 there, 8 wanted)", "num_steps (200 there, 100 wanted)"],
    )
