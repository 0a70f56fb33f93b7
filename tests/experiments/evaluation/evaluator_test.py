from absl.testing import parameterized
import jax
import numpy as np
import pytest

from experiments import data
from experiments.data.split import Split
from experiments.evaluation import evaluator
from experiments.model import settings
from experiments.model.state import create_state
from experiments.processes.devices import replicate
from tests.support import tiny


class DescribeTest(parameterized.TestCase):
  def test_figures_by_hand(self):
    config = tiny.config()
    split = Split(
      np.zeros((4, 16, 16, 3), np.uint8), np.array([0, 0, 1, 1]), ("a", "b")
    )
    streams = settings.create_model(config).streams
    counts = (np.zeros(16), np.zeros(32), np.zeros(64))
    counts[0][:2] = 8
    counts[2][:8] = 6
    errors = np.array([0.1, 0.3, 0.01, 0.01])
    selection = np.array([16.0, 0, 48])
    evaluation = evaluator.Evaluation(streams, errors, (selection, *counts), 64)
    figures = evaluator.describe(config, evaluation, split)
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
      figures = evaluator.describe(config, evaluation, split)
      np.testing.assert_allclose(
        figures["rate_nominal"], 4 + 5 + 6 + entropy, rtol=1e-5
      )
      shares = [book["selection"] for book in figures["codebooks"]]
      np.testing.assert_allclose(shares, [0.25, 0, 0.75])

  def test_baselines(self):
    config = tiny.config()
    rng = np.random.default_rng(0)
    flat = np.full((2, 16, 16, 3), 77, np.uint8)
    noise = rng.integers(0, 256, (2, 16, 16, 3)).astype(np.uint8)
    split = Split(
      np.concatenate([flat, noise]), np.array([0, 0, 1, 1]), ("flat", "noise")
    )
    result = evaluator.baselines(config, split)
    self.assertGreater(result["resize"]["psnr_per_source"]["flat"], 100)
    deviation = (noise / 255).std(axis=(1, 2))
    np.testing.assert_allclose(
      result["mean_color"]["psnr_per_source"]["noise"],
      10 * np.log10(1 / np.mean(deviation**2)),
      rtol=1e-4,
    )


class EvaluatorTest(parameterized.TestCase):
  @pytest.mark.slow
  def test_every_image_counts_once_for_any_batch_and_device_count(self):
    results = []
    for batch_size, num_devices in ((7, 1), (16, 8), (64, 4)):
      config = tiny.config(batch_size=batch_size)
      split = data.load(config)["validation"]
      split = Split(split.images[::9], split.source[::9])  # 27 images
      model = settings.create_model(config)
      devices = jax.local_devices()[:num_devices]
      tested = evaluator.Evaluator(config, model, devices)
      variables = replicate(create_state(config, model).variables, devices)
      argmax, drawn = (
        tested.evaluate(variables, split, draw=draw) for draw in (False, True)
      )
      images, books = tested.reconstruct(variables, split)
      self.assertEqual(sum(c.sum() for c in argmax.counts[1:]), 27 * 16)
      self.assertEqual(argmax.positions, 27 * 16)
      self.assertLen(argmax.squared_error, 27)
      np.testing.assert_allclose(
        np.square(images - (split.images / 255 - 0.5)).mean(axis=(1, 2, 3)),
        argmax.squared_error,
        rtol=1e-4,
      )
      chosen = np.bincount(books.reshape(-1), minlength=3)
      np.testing.assert_array_equal(chosen, argmax.counts[0])
      np.testing.assert_array_equal(
        chosen, [c.sum() for c in argmax.counts[1:]]
      )
      results.append((argmax.counts, drawn.counts))
    for other in results[1:]:
      for a, b in zip(
        jax.tree.leaves(results[0]), jax.tree.leaves(other), strict=True
      ):
        np.testing.assert_array_equal(a, b)
    with self.subTest("a config may ask for the draw"):
      config.quantizer.draw_in_evaluation = True
      tested = evaluator.Evaluator(config, model, devices)
      by_default = tested.evaluate(variables, split)
      np.testing.assert_array_equal(by_default.counts[0], drawn.counts[0])
    # The draw is another choice than the largest probability.
    self.assertFalse(np.array_equal(results[0][0][0], results[0][1][0]))
