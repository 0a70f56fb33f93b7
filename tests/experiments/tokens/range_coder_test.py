from absl.testing import parameterized
import constriction
import numpy as np

from experiments.runs import frequencies
from experiments.tokens import range_coder


def random_table(rng, alphabet):
  """A table, some of whose frequencies are 1."""
  weights = (1e6 * rng.dirichlet(np.full(alphabet, 0.2))).astype(int)
  weights[rng.integers(alphabet)] += 1
  return frequencies.table(weights)


class RangeCoderTest(parameterized.TestCase):
  @parameterized.parameters(2, 3, 7, 100, 512, 65_536, 2**20)
  def test_the_library_takes_our_integers_as_they_are(self, alphabet):
    rng = np.random.default_rng(alphabet)
    for table in (
      random_table(rng, alphabet),
      frequencies.table(np.eye(1, alphabet, alphabet // 2, np.int64)[0]),
      frequencies.table(np.ones(alphabet, np.int64)),
    ):
      model = constriction.stream.model.Categorical(
        (table - 1).astype(np.float64), perfect=False
      )
      starts = np.cumsum(table) - table
      chosen = {0, alphabet - 1, *rng.integers(0, alphabet, 100).tolist()}
      for symbol in chosen:
        coder = constriction.stream.queue.RangeEncoder()
        coder.encode(symbol, model)
        # Its range was 2^64 - 1: a symbol's frequency f makes of it f units,
        # which begin where the symbols before it end.
        _, (lower, width) = coder.pos()
        unit = (2**64 - 1) >> 24
        self.assertEqual(width, int(table[symbol]) * unit)
        self.assertEqual(lower, int(starts[symbol]) * unit)

  def test_bytes_that_every_version_must_decode(self):
    table = np.array([2**24 - 1_000_003, 3, 10**6])
    symbols = np.array([0, 2, 1, 0, 0, 2, 0, 1])
    even = np.array([5, 0, 99])
    large = np.array([0, 123_456, 2**31 - 2])
    encoder = range_coder.Encoder()
    encoder.add(symbols, table)
    encoder.add_even(even, 100)
    encoder.add_even(large, 2**31 - 1)
    golden = bytes.fromhex("efe2c90f1d61e7f3e969559ae80c628072ad9cb365b73348")
    self.assertEqual(encoder.finish(), golden)
    decoder = range_coder.Decoder(golden)
    np.testing.assert_array_equal(decoder.take(8, table), symbols)
    np.testing.assert_array_equal(decoder.take_even(3, 100), even)
    np.testing.assert_array_equal(decoder.take_even(3, 2**31 - 1), large)
    decoder.check_end()

  @parameterized.parameters(2, 5, 1000)
  def test_the_size_is_the_cross_entropy(self, alphabet):
    rng = np.random.default_rng(0)
    table = random_table(rng, alphabet)
    for count in (0, 1, 10, 20_000):
      symbols = rng.choice(alphabet, count, p=table / 2**24)
      encoder = range_coder.Encoder()
      encoder.add(symbols, table)
      content = encoder.finish()
      bits = frequencies.bits(np.bincount(symbols, minlength=alphabet), table)
      self.assertBetween(8 * len(content), bits, 1.0001 * bits + 64)
      decoder = range_coder.Decoder(content)
      np.testing.assert_array_equal(decoder.take(count, table), symbols)
      decoder.check_end()

  @parameterized.parameters(
    1, 2, 3, 512, 1000, 2**16, 2**16 + 1, 2**20, 2**24 + 1, 2**31 - 1
  )
  def test_even_symbols(self, alphabet):
    rng = np.random.default_rng(0)
    symbols = rng.integers(0, alphabet, 3000)
    symbols[:2] = [0, alphabet - 1]
    encoder = range_coder.Encoder()
    encoder.add_even(symbols, alphabet)
    content = encoder.finish()
    decoder = range_coder.Decoder(content)
    found = decoder.take_even(3000, alphabet)
    self.assertEqual(found.dtype, np.int32)
    np.testing.assert_array_equal(found, symbols)
    decoder.check_end()
    bits = 3000 * np.log2(alphabet)
    self.assertBetween(range_coder.even_bits(alphabet), np.log2(alphabet), 31.1)
    self.assertLess(8 * len(content), 1.0006 * bits + 64)

  def test_what_was_not_coded(self):
    table = frequencies.table(np.array([1, 0, 0]))
    symbols = np.array([0] * 90 + [1] * 10)
    encoder = range_coder.Encoder()
    encoder.add(symbols, table)
    content = encoder.finish()
    for bad, count, message in (
      (content, 95, "do not end where they should"),
      (content + bytes(8), 100, "do not end where they should"),
      (b"\xff" * 40, 100, "."),
    ):
      with self.assertRaisesRegex(ValueError, message):
        decoder = range_coder.Decoder(bad)
        decoder.take(count, table)
        decoder.check_end()
    with self.subTest("a number that no digits of a code make"):
      encoder = range_coder.Encoder()
      encoder.add_even(np.array([2**17]), 2**17 + 1)
      with self.assertRaisesRegex(ValueError, r"not in \[0, 131072\)"):
        range_coder.Decoder(encoder.finish()).take_even(1, 2**17)
