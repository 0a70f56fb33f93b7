from absl.testing import parameterized
import numpy as np

from experiments.data.split import Split
from experiments.evaluation import figures_of_merit
from experiments.evaluation.evaluator import Evaluation
from experiments.model import build
from tests.support import tiny


class DescribeTest(parameterized.TestCase):
  def test_figures_by_hand(self):
    config = tiny.config()
    split = Split(
      np.zeros((4, 16, 16, 3), np.uint8), np.array([0, 0, 1, 1]), ("a", "b")
    )
    streams = build.create_model(config).streams
    counts = (np.zeros(16), np.zeros(32), np.zeros(64))
    counts[0][:2] = 8
    counts[2][:8] = 6
    errors = np.array([0.1, 0.3, 0.01, 0.01])
    selection = np.array([16.0, 0, 48])
    evaluation = Evaluation(streams, errors, (selection, *counts), 64)
    figures = figures_of_merit.describe(config, evaluation, split)
    np.testing.assert_allclose(figures["mse"], 0.105)
    np.testing.assert_allclose(figures["recon_loss_sum"], 0.105 * 4 / 64)
    np.testing.assert_allclose(
      figures["psnr_per_source"]["a"], 10 * np.log10(1 / 0.2), rtol=1e-5
    )
    np.testing.assert_allclose(figures["psnr_per_source"]["b"], 20, rtol=1e-5)
    entropy = -(0.25 * np.log2(0.25) + 0.75 * np.log2(0.75))
    rate = 0.25 * 4 + 0.75 * 6 + entropy
    np.testing.assert_allclose(figures["rate_nominal"], rate, rtol=1e-5)
    np.testing.assert_allclose(
      figures["rate_nominal_per_pixel"], rate / 16, rtol=1e-5
    )
    books = figures["codebooks"]
    self.assertEqual(
      [b["structure"] for b in books], [[16, 4], [32, 2], [64, 1]]
    )
    np.testing.assert_allclose([b["selection"] for b in books], [0.25, 0, 0.75])
    np.testing.assert_allclose([b["usage"] for b in books], [1 / 8, 0, 1 / 8])
    np.testing.assert_allclose(books[2]["perplexity"], 8, rtol=1e-5)
    of_streams = figures["streams"]
    self.assertEqual(
      [s["name"] for s in of_streams], ["book", "index_0", "index_1", "index_2"]
    )
    np.testing.assert_allclose(
      [s["sent"] for s in of_streams], [1, 0.25, 0, 0.75]
    )
    np.testing.assert_allclose(
      [s["bits"] for s in of_streams], [entropy, 1, 0, 4.5], rtol=1e-5
    )
    np.testing.assert_allclose(
      [s["usage"] for s in of_streams], [2 / 3, 1 / 8, 0, 1 / 8], rtol=1e-5
    )
    with self.subTest("points that take the indices of all codebooks"):
      counts[0][2:6] = 12  # 64 points
      counts[1][:8] = 8
      counts[2][8:] = 2 / 7  # 64, too
      figures = figures_of_merit.describe(config, evaluation, split)
      np.testing.assert_allclose(
        figures["rate_nominal"], 4 + 5 + 6 + entropy, rtol=1e-5
      )
      shares = [book["selection"] for book in figures["codebooks"]]
      np.testing.assert_allclose(shares, [0.25, 0, 0.75])

  def test_the_coded_rate_is_that_of_frequencies_of_other_data(self):
    config = tiny.config("fixed_16x4")
    streams = build.create_model(config).streams
    counts, reference = np.eye(16)[0] * 32, np.full(16, 1.5)
    evaluation, of_reference = (
      Evaluation(streams, np.zeros(2), (x,), 32) for x in (counts, reference)
    )
    figures = figures_of_merit.describe_coded_rate(
      config, evaluation, of_reference
    )
    np.testing.assert_allclose(figures["rate_coded"], 4, rtol=1e-6)
    np.testing.assert_allclose(
      figures["rate_coded_per_pixel"], 4 / 16, rtol=1e-6
    )
    self.assertEqual(
      figures_of_merit.describe_coded_rate(
        config, Evaluation((), np.zeros(2), (), 32), of_reference
      ),
      {},
    )


class LoggableTest(parameterized.TestCase):
  def test_codebooks_become_vectors_and_other_streams_names(self):
    figures = {
      "mse": 0.5,
      "streams": [{"name": "levels", "usage": 0.25, "perplexity": 3.0}],
      "psnr_per_source": {"camera": 20.0},
    }
    self.assertEqual(
      figures_of_merit.loggable(figures),
      {
        "mse": 0.5,
        "levels_usage": 0.25,
        "levels_perplexity": 3.0,
        "psnr_camera": 20.0,
      },
    )
    book = {"selection": 0.5, "usage": 0.25, "perplexity": 2.0}
    self.assertEqual(
      figures_of_merit.loggable({"codebooks": [book, book]}),
      {
        "selection": [0.5, 0.5],
        "codebook_usage": [0.25, 0.25],
        "codebook_perplexity": [2.0, 2.0],
      },
    )
