from absl.testing import parameterized
import numpy as np

from experiments.data.split import Split
from experiments.evaluation.all_figures import all_figures
from experiments.evaluation.evaluator import Evaluation
from experiments.model import build
from tests.support import tiny


class _Evaluator:
  """Gives evaluations whose error says how their codes were taken."""

  def __init__(self, config):
    self.model = build.create_model(config)
    self.draws_by_default = False
    self.asked = []

  def evaluate(self, variables, split, *, draw=None):
    self.asked.append((len(split), draw))
    counts = tuple(np.ones(s.alphabet) for s in self.model.streams)
    error = np.full(len(split), 0.5 if draw else 0.25)
    return Evaluation(self.model.streams, error, counts, 16 * len(split))

  def codes(self, variables, split):
    shape = (len(split), 4, 4)
    codes = np.zeros((len(self.model.streams), *shape), int)
    codes[0, 0] = -1  # less is sent for the first image
    return list(codes)

  def reconstruct(self, variables, split):
    return split.images[np.arange(len(split))] / 255 - 0.5, None


class AllFiguresTest(parameterized.TestCase):
  def figures(self, variant, result=None, reference=None, **fields):
    config = tiny.config(variant, **fields)
    evaluator = _Evaluator(config)
    images = np.zeros((6, 16, 16, 3), np.uint8)
    splits = {
      "train": Split(images, np.zeros(6, int)),
      "validation": Split(images[:4], np.zeros(4, int)),
    }
    found = all_figures(config, evaluator, {}, splits, result, reference)
    return found, evaluator.asked

  def test_a_model_that_samples_is_evaluated_in_both_ways(self):
    figures, asked = self.figures("adaptive", rate_examples=2)
    self.assertEqual(asked, [(4, None), (2, None), (4, True), (4, True)])
    self.assertEqual((figures["mse"], figures["drawn"]["mse"]), (0.25, 0.5))
    self.assertEqual(figures["recon_loss_first_batch"], 0.5 * 4 / 64)
    self.assertNotIn("not_drawn", figures)
    self.assertIn("rate_coded", figures)
    self.assertCountEqual(figures["baselines"], ["resize", "mean_color"])
    self.assertAlmostEqual(figures["ssim"], 1)
    self.assertCountEqual(figures["image_bits"], ["nominal", "coded"])

  def test_what_is_known_is_not_computed_again(self):
    streams = build.create_model(tiny.config("fixed_16x4")).streams
    known = Evaluation(streams, np.full(4, 0.125), (np.ones(16),), 64)
    figures, asked = self.figures("fixed_16x4", known, rate_examples=0)
    self.assertEqual(asked, [])
    self.assertEqual(figures["mse"], 0.125)
    self.assertEqual(figures["recon_loss_first_batch"], 0.125 * 4 / 64)
    self.assertCountEqual(figures["image_bits"], ["nominal"])
    self.assertNoCommonElements(figures, ["drawn", "not_drawn", "rate_coded"])

  def test_the_reference_that_is_known(self):
    streams = build.create_model(tiny.config("fixed_16x4")).streams
    known = Evaluation(streams, np.full(4, 0.125), (np.arange(16.0),), 64)
    figures, asked = self.figures("fixed_16x4", known, known, rate_examples=2)
    self.assertEqual(asked, [])
    p = (np.arange(16) + 0.5) / 128
    bits = -(np.arange(16) * np.log2(p)).sum() / 64
    np.testing.assert_allclose(figures["rate_coded"], bits, rtol=1e-6)
