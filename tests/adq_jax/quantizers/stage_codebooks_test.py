from absl.testing import parameterized
import jax.numpy as jnp
import numpy as np

from adq_jax import codebook_from
from adq_jax import VectorQuantizer
from adq_jax.codebook.statistics import Batch
from adq_jax.codebook.statistics import Statistics
from adq_jax.quantizers import stages as of_stages
from adq_jax.quantizers.stage_codebooks import StageCodebooks

_COARSE, _FINE = [[0.0], [4.0]], [[-1.0], [0.0], [1.0]]


def bound(codewords, decay=0.0):
  state = codebook_from(jnp.array(codewords)).to_collection()
  quantizer = VectorQuantizer(len(codewords), 1, update="ema", decay=decay)
  return quantizer.bind({"codebook": state}, mutable=["codebook"])


class StageCodebooksTest(parameterized.TestCase):
  def test_own_codebooks(self):
    books = StageCodebooks([bound(_COARSE), bound(_FINE)], ["a", "b"])
    self.assertFalse(books.are_shared)
    points = jnp.array([[0.9], [3.2], [4.1], [jnp.nan]])
    batch = Batch(jnp.nan_to_num(points), jnp.arange(4) < 3)
    codes = books.search(batch, 1)
    np.testing.assert_array_equal(codes, [[0, 2], [1, 0], [1, 1], [0, 0]])
    first, second = books.take(jnp.array([[0, 2], [1, -1]]), 2)
    np.testing.assert_array_equal(first, [[0], [4]])
    np.testing.assert_array_equal(second, [[1], [0]])

  @parameterized.parameters(False, True)
  def test_each_codebook_learns_once(self, is_shared):
    own = [bound(_FINE)] if is_shared else [bound(_FINE), bound(_FINE)]
    books = StageCodebooks(own, ["a", "b"])
    self.assertEqual(books.are_shared, is_shared)
    points = jnp.array([[1.5], [0.8]])
    batch = Batch(points, jnp.ones(2, bool))
    codes = books.search(batch, 1)  # 1 + 0 or 1, and 1 + 0
    stages = of_stages.follow(batch, codes, books.take(codes, 2))
    statistics = [
      Statistics(
        jnp.bincount(codes[:, s], length=3).astype(jnp.float32),
        jnp.zeros((3, 1)).at[codes[:, s]].add(stage.batch.points),
      )
      for s, stage in enumerate(stages)
    ]
    learned = books.learn(stages, statistics)
    self.assertLen(learned, len(own))
    found = [book.all_codewords()[:, 0] for book in own]
    if is_shared:
      np.testing.assert_allclose(found[0], [-1, 0.15, 1.15], rtol=1e-5)
    else:
      np.testing.assert_allclose(found[0], [-1, 0, 1.15], rtol=1e-5)
      np.testing.assert_allclose(found[1], [-1, 0.15, 1], rtol=1e-5)
