from absl.testing import parameterized
import numpy as np

from experiments.data.split import Split


class SplitTest(parameterized.TestCase):
  def test_a_subsample_is_spread_evenly(self):
    split = Split(
      np.arange(10, dtype=np.uint8).reshape(10, 1, 1, 1), np.arange(10), ("a",)
    )
    part = split.subsample(4)
    np.testing.assert_array_equal(part.source, [0, 3, 6, 9])
    self.assertEqual(part.images.shape, (4, 1, 1, 1))
    np.testing.assert_array_equal(
      part.images[np.array([3, 1])].reshape(-1), [9, 3]
    )
    self.assertLen(split.subsample(99), 10)
    with self.subTest("any images may be selected, and more than once"):
      part = split.select(np.array([7, 2, 7]))
      np.testing.assert_array_equal(part.source, [7, 2, 7])
      self.assertLen(part, 3)
      np.testing.assert_array_equal(
        part.images[np.array([2, 1])].reshape(-1), [7, 2]
      )
