from absl.testing import parameterized
import jax.numpy as jnp
import numpy as np

from adq_jax import AdaptiveCodes
from adq_jax.quantizers import adaptive_codes

BOOK = jnp.array([0, 2, 1])
INDICES = [jnp.array([10, 11, 12]) + 10 * i for i in range(3)]


class MakeTest(parameterized.TestCase):
  def test_the_index_is_that_of_the_book(self):
    codes = adaptive_codes.make(BOOK, INDICES, all_indices=False)
    np.testing.assert_array_equal(codes.index, [10, 31, 22])

  def test_or_those_of_all(self):
    codes = adaptive_codes.make(BOOK, INDICES, all_indices=True)
    np.testing.assert_array_equal(codes.index, np.stack(INDICES, -1))
    adaptive_codes.check(codes, 3, all_indices=True)


class CheckTest(parameterized.TestCase):
  @parameterized.parameters(
    (BOOK, False, "codes is a .*; it must be AdaptiveCodes"),
    (AdaptiveCodes(BOOK * 1.0, BOOK), False, "codes.book has dtype float32"),
    (AdaptiveCodes(BOOK, BOOK * 1.0), False, "codes.index has dtype float32"),
    (AdaptiveCodes(BOOK, BOOK[:2]), False, r"codes.index .* must be \(3,\)"),
    (AdaptiveCodes(BOOK, BOOK), True, r"codes.index .* must be \(3, 4\)"),
  )
  def test_others_are_named(self, codes, all_indices, message):
    with self.assertRaisesRegex(ValueError, message):
      adaptive_codes.check(codes, 4, all_indices)
