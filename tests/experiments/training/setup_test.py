import contextlib
import io
import pathlib
from unittest import mock

from absl.testing import parameterized
import jax

from experiments import data
from experiments.errors import UserError
from experiments.runs import claims
from experiments.training import setup
from tests.support import untrained


class SetupTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.create_tempdir()) / "run"
    one = jax.local_devices()[:1]
    self.enter_context(mock.patch.object(jax, "local_devices", lambda: one))

  @contextlib.contextmanager
  def set_up(self, config):
    output = io.StringIO()
    with claims.claim(self.root, config) as claim:
      with contextlib.redirect_stdout(output):
        run, start = setup.set_up(config, self.root, claim)
      yield run, start, output.getvalue()
      run.progress.close()
      run.log.close()
      run.checkpoints.close()

  def test_a_run_goes_on_from_its_checkpoint(self):
    config = untrained.make_run(self.root, untrained.ONE, step=3)
    with self.set_up(config) as (run, start, printed):
      self.assertEqual((start.step, start.is_stopping), (3, False))
      self.assertEqual(int(start.state.step[0]), 3)
      self.assertIn(f"Resuming {self.root} at step 3", printed)
      self.assertCountEqual(run.splits, ["train", "validation"])
      self.assertGreater(run.seconds, 0)
    with self.subTest("a batch larger than the data is refused"):
      config.batch_size = 10**6
      with self.assertRaisesRegex(UserError, "batch_size is 1000000"):
        setup.set_up(config, self.root, claims.Claim(self.root))

  def test_data_are_loaded_before_anything_is_written(self):
    config = untrained.make_run(self.root, untrained.ONE)
    failure = UserError("archive x is missing")
    with mock.patch.object(data, "load", side_effect=failure):
      with self.assertRaisesRegex(UserError, "archive x is missing"):
        setup.set_up(config, self.root, claims.Claim(self.root))
    self.assertFalse((self.root / "metrics.jsonl").exists())
