from absl.testing import parameterized
import jax
import numpy as np

from experiments.tokens import mapped


class MappedTest(parameterized.TestCase):
  def test_batches_of_any_size_and_shape(self):
    traces = []

    def function(variables, batch):
      traces.append(batch["x"].shape)
      return batch["x"] * variables + batch["y"][:, None]

    scaled = mapped.Mapped(function, np.float32(3))
    count = jax.local_device_count()
    for n, width in ((count + 1, 2), (1, 2), (2 * count, 2), (3, 4)):
      x = np.arange(n * width, dtype=np.float32).reshape(n, width)
      y = np.arange(n, dtype=np.float32)
      np.testing.assert_array_equal(
        scaled({"x": x, "y": y}), 3 * x + y[:, None]
      )
    # A smaller batch is filled up, so that nothing is compiled for it.
    self.assertEqual(traces, [(2, 2), (1, 4)])
