from absl.testing import parameterized
import jax.numpy as jnp
import numpy as np

from adq_jax import AdaptiveQuantizer
from adq_jax import metrics
from adq_jax import Stream
from adq_jax import streams
from adq_jax import VectorQuantizer

POOL = AdaptiveQuantizer(((16, 4), (64, 2), (7, 1)), 8)


class StreamTest(parameterized.TestCase):
  @parameterized.parameters(
    ({"alphabet": 0}, "alphabet of stream 'x' is 0"),
    ({"stride": 0}, "stride of stream 'x' is 0"),
    ({"coding": "huffman"}, "coding of stream 'x' is 'huffman'"),
    ({"labels": ("a",)}, "has 1 labels; it must have 8"),
  )
  def test_fields_that_do_not_fit(self, fields, message):
    with self.assertRaisesRegex(ValueError, message):
      Stream("x", **{"alphabet": 8, **fields})

  def test_titles(self):
    self.assertEqual(Stream("index", 512, width=128).title, "[512,128]")
    self.assertEqual(Stream("level_0", 5).title, "level_0")


class SymbolsTest(parameterized.TestCase):
  def test_a_group_counts_as_one_symbol(self):
    of = streams.symbols(
      [
        Stream("depth", 3, coding="entropy"),
        Stream("a", 4, group="levels"),
        Stream("b", 5, group="levels"),
      ]
    )
    self.assertEqual([s.title for s in of], ["depth", "levels"])
    self.assertEqual([s.alphabet for s in of], [3, 20])
    values = [jnp.array([2, 0]), jnp.array([3, 1]), jnp.array([4, 2])]
    np.testing.assert_array_equal(of[0].join(values), [2, 0])
    np.testing.assert_array_equal(of[1].join(values), [19, 7])

  def test_a_group_too_large_for_a_histogram_is_counted_by_stream(self):
    of = streams.symbols([Stream(f"b{i}", 2, group="bits") for i in range(25)])
    self.assertLen(of, 25)
    of = streams.symbols([Stream(f"b{i}", 2, group="bits") for i in range(24)])
    self.assertLen(of, 1)


class SentStreamsTest(parameterized.TestCase):
  def test_the_choice_says_where_the_codebooks_are_sent(self):
    book = jnp.array([[[0, 2], [1, 0]]])
    index = jnp.array([[[5, 6], [7, 8]]])
    codes = POOL.from_streams((book, index, index, index))
    values, masks = streams.sent_streams(POOL, codes)
    np.testing.assert_array_equal(values[0], book)
    np.testing.assert_array_equal(masks[0], np.ones(book.shape, bool))
    for k, (value, mask) in enumerate(zip(values[1:], masks[1:], strict=True)):
      np.testing.assert_array_equal(mask, book == k)
      np.testing.assert_array_equal(value[mask], index[mask])

  def test_a_stream_that_no_other_rules_is_sent_everywhere(self):
    book = jnp.array([[[0, 2], [1, 0]]])
    mask = streams.sent_mask(POOL, 0, (), (1, 2, 2))
    np.testing.assert_array_equal(mask, np.ones((1, 2, 2), bool))
    mask = streams.sent_mask(POOL, 3, (book, book, book), book.shape)
    np.testing.assert_array_equal(mask, book == 2)

  def test_a_choice_has_labels(self):
    self.assertEqual(streams.choice_of(POOL.streams), 0)
    of = (Stream("x", 4), Stream("kind", 2, labels=("a", "b")))
    self.assertEqual(streams.choice_of(of), 1)
    self.assertIsNone(streams.choice_of(of[:1]))


class RatesTest(parameterized.TestCase):
  def test_by_hand(self):
    of = streams.symbols(
      [Stream("depth", 2, coding="entropy"), Stream("x", 8, stride=2)]
    )
    counts = [np.array([12.0, 4.0]), np.array([4.0] + [0.0] * 7)]
    entropy = -(0.75 * np.log2(0.75) + 0.25 * np.log2(0.25))
    np.testing.assert_allclose(
      streams.nominal_rate(of, counts, 16), entropy + 3 * 4 / 16, rtol=1e-6
    )
    np.testing.assert_allclose(
      streams.nominal_bits(of[0], counts[0]), [-np.log2(0.75), 2], rtol=1e-6
    )
    np.testing.assert_array_equal(
      streams.nominal_bits(of[1], counts[1]), [3.0] * 8
    )
    np.testing.assert_array_equal(
      streams.nominal_bits(of[0], np.array([5.0, 0.0])), [0, 0]
    )
    reference = [np.array([7.5, 7.5]), np.array([3.5] + [0.0] * 7)]
    bits = 16 + 4 * -np.log2(4 / 7.5)
    np.testing.assert_allclose(
      streams.coded_rate(of, counts, reference, 16), bits / 16, rtol=1e-6
    )

  @parameterized.parameters((POOL,), (VectorQuantizer(16, 4, features=8),))
  def test_those_of_pools_and_codebooks_to_the_bit(self, quantizer):
    rng = np.random.default_rng(0)
    of = streams.symbols(quantizer.streams)
    sizes = [s.alphabet for s in of if s.coding == "fixed"]
    counts, reference = (
      [rng.integers(0, 99, n).astype(np.float64) for n in sizes]
      for _ in range(2)
    )
    selection, of_reference = (
      np.array([x.sum() for x in of_each]) for of_each in (counts, reference)
    )
    nominal = metrics.nominal_rate(selection, sizes)
    coded = metrics.coded_rate(counts, reference, selection, of_reference)
    if len(sizes) > 1:
      counts, reference = [selection, *counts], [of_reference, *reference]
    positions = float(selection.sum())
    self.assertEqual(streams.nominal_rate(of, counts, positions), nominal)
    self.assertEqual(
      streams.coded_rate(of, counts, reference, positions), coded
    )

  def test_nothing_sent_takes_nothing(self):
    of = streams.symbols(POOL.streams)
    counts = [np.zeros(s.alphabet) for s in of]
    self.assertEqual(streams.nominal_rate(of, counts, 0), 0)
    self.assertEqual(streams.coded_rate(of, counts, counts, 0), 0)
