from absl.testing import parameterized
import jax
import numpy as np

from experiments.data.split import Split
from experiments.evaluation.evaluator import Evaluator
from experiments.evaluation.first_batch import first_batch_loss
from experiments.model import build
from experiments.model.state import create_state
from experiments.processes.devices import replicate
from tests.support import tiny


class FirstBatchTest(parameterized.TestCase):
  def make(self, variant: str, count: int, size: int):
    """Returns the loss, and what else the test compares it with."""
    config = tiny.config(
      variant, batch_size=8, **{"data.paper_batch_size": size}
    )
    model = build.create_model(config)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, 16, 16, 3), np.uint8)
    split = Split(images, np.zeros(count, int))
    devices = jax.local_devices()[:1]
    evaluator = Evaluator(config, model, devices)
    variables = replicate(create_state(config, model).variables, devices)
    asked = []
    evaluate = evaluator.evaluate

    def watched(variables, split, *, draw=None):
      result = evaluate(variables, split, draw=draw)
      asked.append((split.images[np.arange(len(split))], result))
      return result

    evaluator.evaluate = watched
    result = evaluate(variables, split)
    loss = first_batch_loss(config, evaluator, variables, split, result)
    return loss, images, result, asked

  def test_passes_that_are_all_alike_are_not_made(self):
    loss, _, result, asked = self.make("fixed_16x4", 11, 4)
    self.assertEmpty(asked)
    expected = np.mean(result.squared_error[:4], dtype=np.float64) * 11 / 4
    np.testing.assert_allclose(loss, expected, rtol=1e-12)

  def test_a_model_that_samples_does_in_each_pass(self):
    loss, images, _, asked = self.make("adaptive", 11, 4)
    ((shown, drawn),) = asked
    np.testing.assert_array_equal(shown, np.concatenate([images[:4]] * 2))
    by_pass = drawn.squared_error.reshape(2, 4).astype(np.float64)
    self.assertFalse(np.array_equal(*by_pass))
    np.testing.assert_allclose(loss, by_pass.mean() * 11 / 4, rtol=1e-12)

  @parameterized.parameters((3, 1), (4, 1), (8, 2))
  def test_full_batches_are_counted(self, count, passes):
    loss, images, _, asked = self.make("adaptive", count, 4)
    ((shown, drawn),) = asked
    np.testing.assert_array_equal(shown, np.concatenate([images[:4]] * passes))
    expected = np.mean(drawn.squared_error, dtype=np.float64) * count / 4
    np.testing.assert_allclose(loss, expected, rtol=1e-12)
