import math

from absl.testing import parameterized

from experiments.study import ranks


class CorrelationTest(parameterized.TestCase):
  @parameterized.parameters(
    ((1, 2, 3), (10, 200, 201), 1),
    ((1, 2, 3), (3, 2, 1), -1),
    # 1 - 6 (1 + 1 + 0 + 0) / (4 x 15)
    ((1, 2, 3, 4), (2, 1, 3, 4), 0.8),
    # Ranks 1, 2.5, 2.5, 4 and 1, 2, 3, 4: 4.5 / sqrt(4.5 x 5).
    ((1, 5, 5, 9), (1, 2, 3, 4), 4.5 / math.sqrt(22.5)),
  )
  def test_by_hand(self, a, b, expected):
    self.assertAlmostEqual(ranks.correlation(a, b), expected)
    self.assertAlmostEqual(ranks.correlation(b, a), expected)

  @parameterized.parameters((1, 2, float("nan")), (2, 2, 2))
  def test_no_order_is_no_number(self, *a):
    self.assertTrue(math.isnan(ranks.correlation(a, (1, 2, 3))))
