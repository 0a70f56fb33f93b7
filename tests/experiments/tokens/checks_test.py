from unittest import mock

from absl.testing import parameterized
import jax

from adq_jax import Stream
from experiments.errors import UserError
from experiments.tokens import checks
from experiments.tokens import encoding
from tests.support import conversion


class CheckTest(conversion.UntrainedCase):
  def test_several_processes(self):
    with mock.patch.object(jax, "process_count", return_value=2):
      self.refused("for one process", encoding.encode, self.folder, self.file)

  def test_another_config(self):
    self.config.seed = 1
    (self.run_dir / "metrics.jsonl").touch()
    self.refused(r"seed \(0 there, 1 wanted\)", checks.check_request, self.file)


class CheckStreamsTest(parameterized.TestCase):
  def test_codes_that_no_file_can_hold(self):
    model = mock.Mock(streams=[], quantizer=object())
    with self.assertRaisesRegex(
      UserError, "quantizer is a object, whose codes are not finite in number"
    ):
      checks.check_streams(model)
    checks.check_streams(mock.Mock(streams=[Stream("index", 2**20)]))
