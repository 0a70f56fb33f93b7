from absl.testing import parameterized
import jax
import numpy as np
import pytest

from experiments import data
from experiments.data import augment
from experiments.data.split import Split
from experiments.evaluation import evaluator
from experiments.model import build
from experiments.model.state import create_state
from experiments.processes.devices import replicate
from tests.support import tiny


class EvaluatorTest(parameterized.TestCase):
  def test_padding_counts_nowhere(self):
    config = tiny.config("fixed_16x4", batch_size=4)
    model = build.create_model(config)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6, 16, 16, 3), np.uint8)
    split = Split(images, np.zeros(6, int))
    devices = jax.local_devices()[:2]
    variables = create_state(config, model).variables
    tested = evaluator.Evaluator(config, model, devices)
    result = tested.evaluate(replicate(variables, devices), split)
    expected = model.apply(variables, augment.to_float(images))
    np.testing.assert_allclose(
      result.squared_error, expected.squared_error, rtol=1e-4
    )
    (counts,) = result.counts
    np.testing.assert_array_equal(
      counts, np.bincount(expected.quantized.codes.ravel(), minlength=16)
    )
    self.assertEqual(result.positions, counts.sum())
    (codes,) = tested.codes(replicate(variables, devices), split)
    np.testing.assert_array_equal(codes, expected.quantized.codes)

  @pytest.mark.slow
  def test_every_image_counts_once_for_any_batch_and_device_count(self):
    results = []
    for batch_size, num_devices in ((7, 1), (16, 8), (64, 4)):
      config = tiny.config(batch_size=batch_size)
      split = data.load(config)["validation"]
      split = Split(split.images[::9], split.source[::9])  # 27 images
      model = build.create_model(config)
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
      choice, *indices = tested.codes(variables, split)
      np.testing.assert_array_equal(choice, books)
      for i, index in enumerate(indices):
        np.testing.assert_array_equal(index >= 0, books == i)
        np.testing.assert_array_equal(
          np.bincount(index[index >= 0], minlength=len(argmax.counts[1 + i])),
          argmax.counts[1 + i],
        )
      results.append((argmax.counts, drawn.counts))
    for other in results[1:]:
      for a, b in zip(
        jax.tree.leaves(results[0]), jax.tree.leaves(other), strict=True
      ):
        np.testing.assert_array_equal(a, b)
    with self.subTest("a config may ask for the draw"):
      config.sampling.draw_in_evaluation = True
      tested = evaluator.Evaluator(config, model, devices)
      by_default = tested.evaluate(variables, split)
      np.testing.assert_array_equal(by_default.counts[0], drawn.counts[0])
    # The draw is another choice than the largest probability.
    self.assertFalse(np.array_equal(results[0][0][0], results[0][1][0]))
