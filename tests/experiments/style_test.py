from absl.testing import parameterized
import matplotlib.pyplot as plt
import numpy as np

from experiments import style


class LabelPointsTest(parameterized.TestCase):
  def test_texts_cover_nothing(self):
    figure, ax = plt.subplots()
    points = {f"{x:.3f}": (x, x) for x in np.linspace(1.0, 1.03, 5)}
    ax.plot(*zip(*points.values(), strict=True), "o")
    ax.set(xlim=(0.5, 1.5), ylim=(0.5, 1.5), xscale="log")
    style.label_points(ax, points)
    boxes = [text.get_window_extent() for text in ax.texts]
    for i, box in enumerate(boxes):
      self.assertEqual(box.count_overlaps(boxes[:i] + boxes[i + 1 :]), 0)
      pixels = ax.transData.transform(list(points.values()))
      self.assertEqual(box.count_contains(pixels), 0)
    plt.close(figure)
