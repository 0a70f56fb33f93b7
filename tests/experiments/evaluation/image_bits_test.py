from absl.testing import parameterized
import numpy as np

from adq_jax import Stream
from adq_jax import streams as streams_lib
from experiments.evaluation import image_bits
from experiments.evaluation.evaluator import Evaluation

STREAMS = (Stream("depth", 2, coding="entropy"), Stream("index", 8))
# Of four images with 2 x 2 positions; half of all positions have an index.
DEPTH = np.array([[0] * 4, [0, 0, 0, 1], [0, 1, 1, 1], [1] * 4])
INDEX = np.where(DEPTH, np.arange(16).reshape(4, 4) % 8, -1)
CODES = [x.reshape(4, 2, 2).astype(np.int32) for x in (DEPTH, INDEX)]


def _evaluation(streams, codes):
  counts = tuple(
    np.bincount(code[code >= 0], minlength=stream.alphabet).astype(np.float64)
    for stream, code in zip(streams, codes, strict=True)
  )
  return Evaluation(streams, np.zeros(4), counts, codes[0].size)


class ImageBitsTest(parameterized.TestCase):
  def test_bits_by_hand(self):
    tables = [np.array([1.0, 2.0]), np.arange(8) / 8]
    np.testing.assert_array_equal(
      image_bits.image_bits(tables, CODES),
      [4, 5 + 7 / 8, 7 + (1 + 2 + 3) / 8, 8 + (4 + 5 + 6 + 7) / 8],
    )

  def test_percentiles_by_hand(self):
    found = image_bits.describe_image_bits(
      _evaluation(STREAMS, CODES), None, CODES
    )
    # Every depth takes a bit, and an index three.
    bits = np.array([4, 4 + 3, 4 + 9, 4 + 12])
    spread = found["image_bits"]["nominal"]
    self.assertEqual(spread["mean"], 10)
    self.assertEqual(spread["percentile_50"], 10)
    self.assertAlmostEqual(spread["percentile_5"], 4 + 0.15 * 3)
    self.assertAlmostEqual(spread["percentile_95"], bits[3] - 0.15 * 3)

  def test_their_means_are_the_rates_of_images(self):
    evaluation = _evaluation(STREAMS, CODES)
    reference = _evaluation(STREAMS, [np.zeros_like(CODES[0]), CODES[1] // 2])
    found = image_bits.describe_image_bits(evaluation, reference, CODES)
    of, counts = evaluation.symbols, evaluation.counts
    for name, rate in (
      ("nominal", streams_lib.nominal_rate(of, counts, 16)),
      ("coded", streams_lib.coded_rate(of, counts, reference.counts, 16)),
    ):
      np.testing.assert_allclose(
        found["image_bits"][name]["mean"], 4 * rate, rtol=1e-6
      )

  def test_bits_that_all_images_share_are_left_out(self):
    evaluation = _evaluation(STREAMS[1:], [np.abs(CODES[1])])
    found = image_bits.describe_image_bits(
      evaluation, evaluation, [np.abs(CODES[1])]
    )
    self.assertCountEqual(found["image_bits"], ["coded"])
    flat = [np.zeros_like(CODES[1])]
    evaluation = _evaluation(STREAMS[1:], flat)
    self.assertEqual(
      image_bits.describe_image_bits(evaluation, evaluation, flat), {}
    )
