import itertools

from absl.testing import parameterized
import numpy as np

from experiments.data import pipeline
from experiments.data.split import Split


def make_split(n):
  images = np.arange(n, dtype=np.uint8).reshape(n, 1, 1, 1)
  return Split(images, np.zeros(n, np.int32))


def take(split, seed, batch_size, first_step, count):
  batches = pipeline.train_batches(split, seed, batch_size, first_step)
  return [b.reshape(-1) for b in itertools.islice(batches, count)]


class TrainBatchesTest(parameterized.TestCase):
  @parameterized.parameters((12, 4), (10, 4), (3, 8))
  def test_every_epoch_is_a_permutation(self, n, batch_size):
    images = np.concatenate(take(make_split(n), 0, batch_size, 0, 30))
    epochs = images[: len(images) // n * n].reshape(-1, n)
    np.testing.assert_array_equal(
      np.sort(epochs, axis=1), np.tile(np.arange(n), (len(epochs), 1))
    )
    self.assertGreater(len(np.unique(epochs, axis=0)), 1)

  @parameterized.parameters(1, 2, 7, 20)
  def test_batch_k_is_a_function_of_seed_and_k(self, first_step):
    split = make_split(10)
    whole = take(split, 3, 4, 0, 25)
    resumed = take(split, 3, 4, first_step, 5)
    np.testing.assert_array_equal(resumed, whole[first_step : first_step + 5])
    other = take(split, 4, 4, 0, 25)
    self.assertFalse(np.array_equal(other, whole))


class EvalBatchesTest(parameterized.TestCase):
  @parameterized.parameters(1, 3, 4, 10, 16)
  def test_every_image_once(self, batch_size):
    seen = []
    split = make_split(10)
    for images, indices, mask in pipeline.eval_batches(split, batch_size):
      self.assertEqual(images.shape, (batch_size, 1, 1, 1))
      np.testing.assert_array_equal(images.reshape(-1), indices)
      seen.extend(indices[mask > 0])
    self.assertEqual(seen, list(range(10)))
