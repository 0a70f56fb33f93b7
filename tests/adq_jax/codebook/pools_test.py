from absl.testing import parameterized

from adq_jax import codebook_structures


class StructuresTest(parameterized.TestCase):
  def test_the_papers_pool(self):
    self.assertEqual(
      codebook_structures(65536),
      (
        (512, 128),
        (1024, 64),
        (2048, 32),
        (4096, 16),
        (8192, 8),
        (16384, 4),
        (32768, 2),
        (65536, 1),
      ),
    )

  @parameterized.parameters((4096, 32), (8192, 64), (32768, 128), (2, 1))
  def test_codewords_outnumber_their_width(self, capacity, widest):
    pool = codebook_structures(capacity)
    self.assertEqual(pool[0], (capacity // widest, widest))
    for codebook_size, embedding_dim in pool:
      self.assertEqual(codebook_size * embedding_dim, capacity)
      self.assertGreater(codebook_size, embedding_dim)

  @parameterized.parameters(0, 1, -5, 32786)
  def test_impossible_capacity(self, capacity):
    with self.assertRaisesRegex(ValueError, f"capacity is {capacity}"):
      codebook_structures(capacity)
