from absl.testing import parameterized
import jax
import numpy as np

from experiments import data
from experiments.data import augment
from experiments.evaluation import examples
from experiments.evaluation import rate_curve
from experiments.evaluation.evaluator import Evaluator
from experiments.model import build
from experiments.model import rate_weights
from experiments.model.state import create_state
from experiments.processes.devices import replicate
from experiments.runs import frequencies
from tests.support import tiny


class RateCurveTest(parameterized.TestCase):
  def test_the_curve_of_a_model(self):
    config = tiny.config(
      "priced_2x8x4", **{"rate_weight.lowest": 1e-6, "rate_weight.highest": 1.0}
    )
    model = build.create_model(config)
    devices = jax.local_devices()[:2]
    tested = Evaluator(config, model, devices)
    alone = create_state(config, model).variables
    splits = data.load(config)
    splits = {name: split.subsample(30) for name, split in splits.items()}
    images = splits["train"].images[np.arange(30)]
    images = augment.to_float(augment.crop_centre(images, 16))
    _, placed = model.apply(
      alone,
      images,
      train=True,
      mutable=["codebook"],
      rngs={"codebook": jax.random.key(0)},
    )
    alone = {**alone, **placed}
    variables = replicate(alone, devices)
    found = rate_curve.find_frequencies(config, tested, variables, splits)
    prices = rate_weights.on_curve(config)
    np.testing.assert_array_equal(found.prices, prices)

    # The same by hand, for one price: encode, count, and encode again.
    tables = {}
    for _ in range(3):
      codes = model.apply(
        {**alone, **tables}, images, rate_weight=prices[6], method="encode"
      )
      values = model.to_streams(codes)
      sent = [None, *(values[0] > s for s in range(2))]
      counts = [
        np.bincount(value[mask].ravel(), minlength=stream.alphabet)
        for value, mask, stream in zip(
          values, [np.ones_like(sent[1]), *sent[1:]], model.streams, strict=True
        )
      ]
      by_hand = frequencies.of_counts(
        tested.symbols, [counts] * 2, [prices[6], 2 * prices[6]]
      )
      tables = frequencies.to_collection(by_hand, tested.symbols)
    for rows, own in zip(found.tables, by_hand.tables, strict=True):
      np.testing.assert_array_equal(rows[6], own[0])

    known = rate_curve.with_frequencies(variables, tested, found)
    curve = rate_curve.measure(config, tested, known, splits, found)
    self.assertEqual([point["rate_weight"] for point in curve], list(prices))
    rates = [point["rate_coded"] for point in curve]
    errors = [point["mse"] for point in curve]
    self.assertGreater(rates[0], rates[-1] + 1)
    self.assertLess(rates[-1], 1)
    self.assertTrue(np.isfinite(errors).all())

    shown = examples.find_examples(
      config, tested, known, splits["validation"], found
    )
    original, *titles = (title for title, _ in shown.rows)
    self.assertEqual(original, "original")
    self.assertLen(titles, 3)
    per_pixel = [float(title.split()[0]) for title in titles]
    self.assertEqual(per_pixel, sorted(per_pixel, reverse=True))
    self.assertAlmostEqual(per_pixel[1], shown.bits.mean() / 16, delta=0.005)
    # A position of no stage takes the bits of its depth alone.
    self.assertEqual(shown.choice.shape, shown.bits.shape)
    of_depths = frequencies.bits_of(found, tested.symbols)[0][4]
    is_none = shown.choice == 0
    np.testing.assert_allclose(shown.bits[is_none], of_depths[0], rtol=1e-6)

  def test_a_model_that_trains_without_prices_has_none(self):
    config = tiny.config("fixed_16x4")
    found = rate_curve.find_frequencies(config, None, {}, {})
    self.assertIsNone(found)
