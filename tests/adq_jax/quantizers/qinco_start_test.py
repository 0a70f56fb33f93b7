from absl.testing import parameterized
import chex
import jax
import numpy as np

from adq_jax import GradientUpdate
from adq_jax import NominalPrice
from adq_jax import QINCo
from adq_jax import QINCo2Network
from adq_jax import qinco_from_residual
from adq_jax import QINCoNetwork
from adq_jax import ResidualQuantizer
from tests.support.small import bits

KEY = jax.random.key(0)


class QincoFromResidualTest(parameterized.TestCase):
  @parameterized.parameters(
    ({"shared_codebook": True}, {"network": QINCoNetwork(1, hidden=5)}),
    (
      {"update": GradientUpdate(), "features": 4, "beam_size": 2},
      # Layers as wide as codewords, where the published code starts at 2 c.
      {
        "network": QINCo2Network(1, 3, 5),
        "beam_size": 2,
        "num_candidates": 3,
      },
    ),
  )
  def test_it_does_what_the_residual_quantizer_does(self, of_residual, fields):
    residual = ResidualQuantizer(3, 12, 3, **of_residual)
    quantizer = QINCo(3, 12, 3, features=residual.features, **fields)
    z = jax.random.normal(KEY, (200, *residual.example_shape[1:]))

    @jax.jit
    def both():
      trained = residual.init(jax.random.key(1), z)
      variables = qinco_from_residual(KEY, quantizer, residual, trained)
      return residual.apply(trained, z), quantizer.apply(variables, z)

    expected, found = both()
    np.testing.assert_array_equal(found.codes, expected.codes)
    chex.assert_trees_all_equal(bits(found.values), bits(expected.values))

  @parameterized.parameters(
    ({"num_stages": 2}, "num_stages of the QINCo is 3; it must be 2"),
    ({"features": 5}, "features of the QINCo is None; it must be 5"),
    ({"price": NominalPrice()}, "price of the residual quantizer is Nominal"),
  )
  def test_errors(self, fields, message):
    of = {"num_stages": 3, "codebook_size": 12, "embedding_dim": 3}
    with self.assertRaisesRegex(ValueError, message):
      qinco_from_residual(
        KEY, QINCo(**of), ResidualQuantizer(**of | fields), {}
      )
