from absl.testing import parameterized
import numpy as np

from experiments.tokens import packing
from tests.support import old_packing

SIZES = (1, 2, 3, 5, 10, 100, 512, 1000, 65_536, 100_000, 2**24, 2**31 - 1)


class PackTest(parameterized.TestCase):
  def test_by_hand(self):
    # Three bits each: 001 101 111, and zeros.
    self.assertEqual(old_packing.pack(np.array([1, 5, 7]), 8), b"\x37\x80")
    # 3^29 is a little less than 2^46; nothing up to 64 bits fits better.
    self.assertEqual(packing.block(3), (29, 46))
    # Two that are left: 2 * 3 + 1 = 7 of 9 takes four bits.
    self.assertEqual(old_packing.pack(np.array([2, 1]), 3), b"\x70")
    self.assertEqual(old_packing.pack(np.zeros(9, int), 1), b"")

  @parameterized.parameters(*SIZES)
  def test_there_and_back_in_the_size_that_is_stated(self, base):
    rng = np.random.default_rng(0)
    digits, bits = packing.block(base)
    self.assertLess(bits - digits * np.log2(base), 1)
    self.assertLessEqual(bits, 64)
    fitting = int(64 / np.log2(base)) if base > 1 else 64
    for count in (0, 1, 7, 1000):
      values = rng.integers(0, base, count)
      values[:2] = [0, base - 1][:count]
      packed = old_packing.pack(values, base)
      self.assertLen(packed, packing.packed_size(count, base))
      # Whole bytes, one bit for the last block, and what the others waste.
      nominal = count * np.log2(base)
      self.assertLess(8 * len(packed), nominal + count / fitting + 1 + 8)
      if base & (base - 1) == 0:
        self.assertLess(8 * len(packed), nominal + 8)
      unpacked = packing.unpack(packed, count, base)
      self.assertEqual(unpacked.dtype, np.int32)
      np.testing.assert_array_equal(unpacked, values)

  def test_what_is_out_of_range(self):
    with self.assertRaisesRegex(ValueError, "a number is not in"):
      packing.unpack(b"\xe0", 1, 5)  # 7
    with self.assertRaisesRegex(ValueError, "after the last"):
      packing.unpack(b"\x81", 1, 5)
    with self.assertRaisesRegex(ValueError, "another size"):
      packing.unpack(b"\x80\x00", 1, 5)


class SymbolsTest(parameterized.TestCase):
  @parameterized.parameters(
    ([1.0],),
    ([0.0, 1.0, 0.0],),
    ([0.5, 0.5],),
    ([0.97, 0.01, 0.01, 0.01, 0.0],),
    ([1 / 8] * 8,),
    ([0.99999, 0.00001],),
    ([0.5] + [0.5 / 255] * 255,),
  )
  def test_there_and_back_at_the_entropy(self, probabilities):
    rng = np.random.default_rng(0)
    num = len(probabilities)
    for count in (1, 2, 50, 20_000):
      symbols = rng.choice(num, count, p=probabilities)
      content = old_packing.encode_symbols(symbols, num)
      decoded = packing.decode_symbols(content, count, num)
      np.testing.assert_array_equal(decoded, symbols)
      shares = np.bincount(symbols) / count
      entropy = -sum(p * np.log2(p) for p in shares if p)
      excess = 8 * (len(content) - 2 * num - 8) - count * entropy
      self.assertLess(excess, 0.02 * count if num > 8 else 0.001 * count + 1)

  def test_what_was_not_encoded(self):
    symbols = np.arange(100) % 3
    content = old_packing.encode_symbols(symbols, 3)
    for bad, count, message in (
      (content[:10], 100, "cut short"),
      (content[:-1], 100, "cut short"),
      (content[:-4], 100, "cut short"),
      (content + bytes(4), 100, "do not end"),
      (content, 99, "do not end"),
      (b"\0" + content[1:], 100, "do not add up"),
      (content[:6] + bytes(8) + content[14:], 100, "."),
    ):
      with self.assertRaisesRegex(ValueError, message):
        packing.decode_symbols(bad, count, 3)
