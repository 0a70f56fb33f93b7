from absl.testing import parameterized
import chex
import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from adq_jax.codebook.statistics import Statistics
from adq_jax.quantizers.stream_counts import StreamCounts


class _Counting(nn.Module):
  def setup(self):
    self.counts = StreamCounts(self, "book", 3, 0.75)

  def __call__(self, counts=None):
    if counts is not None:
      self.counts.update_codebook(Statistics(counts, None))
    return self.counts.values()


class StreamCountsTest(parameterized.TestCase):
  def test_it_is_a_moving_average_of_counts(self):
    variables = _Counting().init({})
    chex.assert_trees_all_equal(variables["codebook"]["book"], jnp.ones(3))
    found, after = _Counting().apply(
      variables, jnp.array([8.0, 4.0, 0.0]), mutable=["codebook"]
    )
    np.testing.assert_array_equal(found, [2.75, 1.75, 0.75])
    chex.assert_trees_all_equal(after["codebook"]["book"], found)

  def test_a_state_without_it_has_seen_nothing(self):
    chex.assert_trees_all_equal(_Counting().apply({}), jnp.ones(3))

  def test_what_does_not_fit_is_refused(self):
    variables = {"codebook": {"book": jnp.ones(3)}}
    with self.assertRaisesRegex(ValueError, r"statistics.counts has shape"):
      _Counting().apply(variables, jnp.ones(4), mutable=["codebook"])
    variables = {"codebook": {"book": jnp.ones(3, jnp.bfloat16)}}
    with self.assertRaisesRegex(ValueError, "book in the .* bfloat16"):
      _Counting().apply(variables, jnp.ones(3), mutable=["codebook"])
