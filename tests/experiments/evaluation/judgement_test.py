from unittest import mock

from absl.testing import parameterized

from adq_jax import Stream
from adq_jax import streams as streams_lib
from experiments.evaluation import judgement
from tests.support import tiny

STREAMS = (Stream("index", 4),)


class JudgementTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.parts = {
      name: self.enter_context(mock.patch.object(module, name))
      for module, name in (
        (judgement.rate_curve, "find_frequencies"),
        (judgement.rate_curve, "with_frequencies"),
        (judgement.rate_curve, "measure"),
        (judgement, "all_figures"),
        (judgement, "evaluate_reference"),
      )
    }
    self.parts["all_figures"].return_value = {"psnr": 20.0}
    reference = self.parts["evaluate_reference"].return_value
    reference.streams = STREAMS
    reference.symbols = streams_lib.symbols(STREAMS)
    reference.counts = [[9, 0, 0, 1]]

  def judge(self):
    config = tiny.config("fixed_16x4")
    return judgement.judge(config, None, {"params": 1}, {}, "known")

  def test_a_model_of_one_rate_keeps_what_is_known(self):
    self.parts["find_frequencies"].return_value = None
    self.parts["evaluate_reference"].return_value.counts = [
      judgement.frequencies.np.array([9, 0, 0, 1])
    ]
    judged = self.judge()
    self.assertEqual(judged.figures, {"psnr": 20.0})
    self.assertEqual(judged.variables, {"params": 1})
    self.assertEqual(self.parts["all_figures"].call_args.args[4], "known")
    self.assertEqual(judged.found.prices.tolist(), [0])
    self.assertGreater(judged.found.tables[0][0, 0], 2**23)

  def test_a_model_with_a_curve_is_judged_by_its_frequencies(self):
    judged = self.judge()
    self.assertIs(judged.found, self.parts["find_frequencies"].return_value)
    self.assertIs(judged.variables, self.parts["with_frequencies"].return_value)
    self.assertIs(judged.figures["curve"], self.parts["measure"].return_value)
    args = self.parts["all_figures"].call_args.args
    self.assertIs(args[2], judged.variables)
    self.assertIsNone(args[4])
