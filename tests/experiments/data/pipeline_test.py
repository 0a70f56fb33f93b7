import itertools
import threading

from absl.testing import parameterized
import jax
import numpy as np

from experiments.data import pipeline
from experiments.processes import devices


def make_images(n):
  return np.arange(n, dtype=np.uint8).reshape(n, 1, 1, 1)


def take(images, seed, batch_size, first, count, **process):
  batches = pipeline.TrainBatches(
    images,
    seed=seed,
    batch_size=batch_size,
    num_steps=first + count,
    **process,
  )
  return [np.array(b) for b in pipeline.iterate(batches, first)]


class TrainBatchesTest(parameterized.TestCase):
  @parameterized.parameters((12, 4), (10, 4), (3, 8))
  def test_every_epoch_is_a_permutation(self, n, batch_size):
    images = np.concatenate(take(make_images(n), 0, batch_size, 0, 30))
    epochs = images[: len(images) // n * n].reshape(-1, n)
    np.testing.assert_array_equal(
      np.sort(epochs, axis=1), np.tile(np.arange(n), (len(epochs), 1))
    )
    self.assertGreater(len(np.unique(epochs, axis=0)), 1)

  @parameterized.parameters(1, 2, 7, 20)
  def test_batch_k_is_a_function_of_seed_and_k(self, first):
    images = make_images(10)
    whole = take(images, 3, 4, 0, 25)
    resumed = take(images, 3, 4, first, 5)
    np.testing.assert_array_equal(resumed, whole[first : first + 5])
    other = take(images, 4, 4, 0, 25)
    self.assertFalse(np.array_equal(other, whole))

  @parameterized.parameters(2, 4)
  def test_slices_of_processes_are_the_batch_of_one(self, count):
    images = make_images(11)
    whole = take(images, 1, 8, 0, 9)
    slices = [
      take(images, 1, 8, 0, 9, process_index=i, process_count=count)
      for i in range(count)
    ]
    np.testing.assert_array_equal(np.concatenate(slices, axis=1), whole)
    self.assertLen(slices[0][0], 8 // count)

  def test_batches_that_processes_cannot_share(self):
    with self.assertRaisesRegex(ValueError, "batch_size is 8.*processes, 3"):
      take(make_images(11), 1, 8, 0, 1, process_count=3)

  def test_one_device_and_eight_get_the_same(self):
    images = make_images(40)
    results = []
    for count in (1, 8):
      chosen = jax.local_devices()[:count]
      batches = pipeline.TrainBatches(
        images, seed=5, batch_size=16, num_steps=6
      )
      batches = devices.prefetch(pipeline.iterate(batches), chosen)
      results.append([np.asarray(b).reshape(16) for b in batches])
    self.assertLen(results[0], 6)
    np.testing.assert_array_equal(*results)


class EvalBatchesTest(parameterized.TestCase):
  @parameterized.parameters(1, 3, 4, 10, 16)
  def test_every_image_once(self, batch_size):
    seen = []
    batches = pipeline.EvalBatches(make_images(10), batch_size)
    for images, indices, mask in pipeline.iterate(batches):
      self.assertEqual(images.shape, (batch_size, 1, 1, 1))
      np.testing.assert_array_equal(images.reshape(-1), indices)
      seen.extend(indices[mask > 0])
    self.assertEqual(seen, list(range(10)))

  def test_parts_of_processes_are_the_batch(self):
    images = make_images(10)
    whole = pipeline.EvalBatches(images, 8)
    parts = [
      pipeline.EvalBatches(images, 8, process_index=i, process_count=4)
      for i in range(4)
    ]
    for number in range(2):
      for i, expected in enumerate(whole[number][:2]):
        parted = [part[number][i] for part in parts]
        np.testing.assert_array_equal(np.concatenate(parted), expected)
      for part in parts:
        np.testing.assert_array_equal(part[number][2], whole[number][2])


class IterateTest(parameterized.TestCase):
  def test_batches_are_made_ahead_by_other_threads(self):
    made, names = threading.Semaphore(0), set()

    class Slow:
      def __len__(self):
        return 1000

      def __getitem__(self, number):
        names.add(threading.current_thread().name)
        made.release()
        return number

    batches = pipeline.iterate(Slow())
    self.assertEqual(next(batches), 0)
    for _ in range(3):  # more than were asked for
      self.assertTrue(made.acquire(timeout=10))
    self.assertNotIn(threading.current_thread().name, names)
    self.assertEqual(list(itertools.islice(batches, 5)), [1, 2, 3, 4, 5])

  def test_an_error_reaches_the_caller(self):
    class Bad(list):
      def __getitem__(self, number):
        if number == 2:
          raise OSError("record 2")
        return number

    batches = pipeline.iterate(Bad(range(9)))
    self.assertEqual([next(batches), next(batches)], [0, 1])
    with self.assertRaisesRegex(OSError, "record 2"):
      next(batches)
