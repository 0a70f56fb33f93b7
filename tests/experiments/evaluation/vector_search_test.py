from absl.testing import absltest
import numpy as np

from experiments.evaluation import vector_search


class VectorSearchTest(absltest.TestCase):
  def test_figures_by_hand(self):
    vectors = np.array([[0, 0], [4, 0], [0, 8]], np.float32)
    # What was nearest to (1, 0) is farther than another one now.
    decoded = np.array([[0, 3], [3, 0], [0, 8]], np.float32)
    queries = np.array([[1, 0], [5, 0], [0, 9], [1, 1]], np.float32)
    figures = vector_search.measure(vectors, decoded, queries, 6.0)
    self.assertAlmostEqual(figures.mse, (9 + 1 + 0) / 3)
    self.assertEqual(figures.recall, 0.75)
    self.assertEqual(figures.bits, 6.0)
