from absl.testing import parameterized
import chex
import jax
from jax import export
import jax.numpy as jnp
import pytest

import adq_jax


def make(kind):
  """An instance of a kind of result, with an array in each field."""
  names = kind.__dataclass_fields__
  return kind(**{name: jnp.full(2, i) for i, name in enumerate(names)})


class SerializationTest(parameterized.TestCase):
  @parameterized.parameters(
    adq_jax.AdaptiveCodes,
    adq_jax.Codebook,
    adq_jax.Quantized,
    adq_jax.Reconstruction,
    adq_jax.Statistics,
  )
  def test_functions_of_results_come_back(self, kind):
    pytest.importorskip("flatbuffers")  # which jax serializes with
    given = make(kind)
    double = jax.jit(lambda tree: jax.tree.map(lambda x: 2 * x, tree))
    data = export.export(double)(given).serialize()
    found = export.deserialize(data).call(given)
    self.assertIsInstance(found, kind)
    chex.assert_trees_all_equal(found, double(given))
