from absl.testing import absltest
import numpy as np

from adq_jax import QINCo
from adq_jax import QINCo2Network
from experiments.training import fixed_vectors


class FixedVectorsTest(absltest.TestCase):
  def test_a_qinco_gets_better_than_the_residual_quantizer(self):
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, 2 * np.pi, size=(640, 1))
    vectors = 5 * np.concatenate([np.cos(angle), np.sin(angle)], axis=1) + 3
    vectors = vectors.astype(np.float32)
    residual = fixed_vectors.train_residual(vectors, 2, 4, seed=0)
    self.assertEqual(residual.bits, 4)
    np.testing.assert_allclose(residual.scaled(vectors).mean(), 0, atol=1e-5)
    np.testing.assert_allclose(residual.scaled(vectors).std(), 1, atol=1e-2)

    def error(trained):
      return np.square(trained.decoded(vectors) - vectors).sum(axis=1).mean()

    # k-means finds four arcs; a stage more turns with the arc.
    self.assertLess(error(residual), 0.1 * vectors.var(axis=0).sum())
    losses = {}
    trained = fixed_vectors.train_qinco(
      QINCo(2, 4, 2, network=QINCo2Network(1, 16, 16), commitment_cost=0.0),
      residual,
      vectors,
      epochs=60,
      batch_size=64,
      learning_rate=1e-2,
      seed=0,
      report=losses.__setitem__,
    )
    self.assertLen(losses, 60)
    self.assertLess(losses[60], losses[1])
    self.assertLess(error(trained), 0.7 * error(residual))
