from unittest import mock

from absl.testing import parameterized
import numpy as np

from experiments.data.split import Split
from experiments.evaluation import similarity
from tests.support import tiny


def _by_hand(a: np.ndarray, b: np.ndarray, side: int) -> float:
  """The SSIM of two grey images in [0, 1], from its definition."""
  windows = (
    np.lib.stride_tricks.sliding_window_view(x, (side, side)).reshape(
      -1, side**2
    )
    for x in (a, b)
  )
  values = []
  for x, y in zip(*windows, strict=True):
    covariance = np.cov(x, y)
    values.append(
      (2 * x.mean() * y.mean() + 0.01**2)
      * (2 * covariance[0, 1] + 0.03**2)
      / (x.mean() ** 2 + y.mean() ** 2 + 0.01**2)
      / (covariance[0, 0] + covariance[1, 1] + 0.03**2)
    )
  return np.mean(values)


class SsimTest(parameterized.TestCase):
  @parameterized.parameters((28, 7), (8, 7), (6, 5), (4, 3))
  def test_it_is_that_of_its_definition(self, size, side):
    rng = np.random.default_rng(0)
    originals = rng.integers(0, 256, (2, size, size, 3), np.uint8)
    images = originals / 255 - 0.5 + rng.normal(0, 0.1, originals.shape)
    np.testing.assert_allclose(
      similarity.ssim(originals, images.astype(np.float32)),
      [
        np.mean(
          [_by_hand(x[..., c], y[..., c], side) for c in range(x.shape[-1])]
        )
        for x, y in zip(originals / 255, images + 0.5, strict=True)
      ],
      rtol=1e-5,
    )

  def test_equal_images_have_1(self):
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 1), np.uint8)
    np.testing.assert_allclose(similarity.ssim(images, images / 255 - 0.5), 1)


class _Evaluator:
  """Gives back images, of which every second one is grey."""

  def __init__(self):
    self.asked = []

  def reconstruct(self, variables, split):
    images = split.images[np.arange(len(split))][:, 2:-2, 2:-2] / 255 - 0.5
    self.asked.append(len(split))
    images[1::2] = 0
    return images.astype(np.float32), None


class MeanSsimTest(parameterized.TestCase):
  def test_images_are_cut_and_taken_in_parts(self):
    self.enter_context(mock.patch.object(similarity, "_PART", 4))
    self.enter_context(mock.patch.object(similarity, "_MOST_IMAGES", 6))
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (16, 20, 20, 3), np.uint8)
    split = Split(images, np.zeros(16, int))
    evaluator = _Evaluator()
    found = similarity.mean_ssim(tiny.config(), evaluator, {}, split)
    self.assertEqual(evaluator.asked, [4, 2])
    shown = images[[0, 3, 6, 9, 12, 15], 2:-2, 2:-2]
    of_grey = similarity.ssim(shown[1::2], np.zeros((3, 16, 16, 3)))
    np.testing.assert_allclose(found, (3 + of_grey.sum()) / 6, rtol=1e-6)
