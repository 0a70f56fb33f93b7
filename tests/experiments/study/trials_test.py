import json
import pathlib
import subprocess
import sys

from absl.testing import parameterized

from experiments.errors import UserError
from experiments.runs import workdir as workdirs
from experiments.study import trials
from tests.support import fake_runs

_ROOT = pathlib.Path(__file__).parents[3]
_PROGRAM = """
import sys
import experiments.study.{}
print(*{{name.partition(".")[0] for name in sys.modules}})
"""


class TrialTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.create_tempdir())

  def test_how_far_it_is(self):
    trial = trials.Trial(self.root, "mnist", "adaptive", 1)
    self.assertEqual(str(trial), "mnist/adaptive/seed_1")
    self.assertEqual(trial.status(), "not run")
    trial = fake_runs.make(self.root, "mnist", "adaptive", 1, is_finished=False)
    self.assertEqual(trial.status(), "at step 100 of 200")
    trial.failure.write_text("out of\nmemory")
    self.assertEqual(trial.status(), "failed: out of memory")
    summary = fake_runs.make(self.root, "mnist", "adaptive", 2).summary
    text = json.dumps(summary)
    (trial.workdir / workdirs.SUMMARY).write_text(text)
    self.assertEqual(trial.status(), "finished")
    (trial.workdir / workdirs.CONFIG).unlink()
    self.assertIsNone(trial.summary)
    self.assertIn("holds no run", trial.problem())

  def test_cells_are_found_by_their_directories(self):
    for variant, seed in (("adaptive", 10), ("adaptive", 2), ("cnn", 0)):
      fake_runs.make(self.root, "mnist", variant, seed, is_finished=seed != 2)
    (self.root / "mnist" / "cnn" / "seed_x").mkdir()
    found = trials.find_trials(self.root, "mnist")
    self.assertCountEqual(
      map(str, found),
      ["mnist/adaptive/seed_10", "mnist/adaptive/seed_2", "mnist/cnn/seed_0"],
    )
    self.assertEqual(trials.find_datasets(self.root), ["mnist"])
    ended = trials.ended(fake_runs.by_variant(self.root, "mnist"))
    self.assertEqual([c.seed for c in ended["adaptive"]], [10])

  def test_a_directory_without_trials(self):
    with self.assertRaisesRegex(UserError, "holds no runs"):
      trials.find_datasets(self.root)


class ImportTest(parameterized.TestCase):
  @parameterized.parameters("trials", "comparable", "over_seeds", "rendering")
  def test_what_reads_runs_needs_nothing_that_trains_or_draws(self, module):
    result = subprocess.run(
      [sys.executable, "-c", _PROGRAM.format(module)],
      cwd=_ROOT,
      capture_output=True,
      text=True,
      check=True,
    )
    loaded = result.stdout.split()
    self.assertIn("experiments", loaded)
    self.assertNoCommonElements(
      loaded,
      ["flax", "grain", "jax", "matplotlib", "orbax", "tensorflow_datasets"],
    )
