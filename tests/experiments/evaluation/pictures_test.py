import json
import pathlib
from unittest import mock

from absl.testing import parameterized
import matplotlib.pyplot as plt
import numpy as np

from adq_jax import Stream
from experiments.evaluation import pictures

CHOICE = Stream(
  "book", 3, coding="entropy", labels=("[16,4]", "[32,2]", "[64,1]")
)


class PicturesTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.create_tempdir())
    self.enter_context(mock.patch.object(plt, "close"))
    self.addCleanup(plt.close, "all")

  @parameterized.parameters(1, 3)
  def test_reconstructions(self, channels):
    rng = np.random.default_rng(0)
    originals = rng.integers(0, 256, (4, 8, 8, channels)).astype(np.uint8)
    books = rng.integers(0, 3, (4, 2, 2))
    path = self.root / "reconstructions.png"
    rows = [("original", originals), ("half", 255 - originals)]
    pictures.draw_reconstructions(path, rows, books, CHOICE)
    self.assertGreater(path.stat().st_size, 0)
    figure = plt.gcf()
    shown = [ax.images[0].get_array() for ax in figure.axes]
    for i in range(4):
      np.testing.assert_array_equal(shown[i], originals[i].squeeze())
      np.testing.assert_array_equal(shown[4 + i], 255 - originals[i].squeeze())
      np.testing.assert_array_equal(shown[8 + i], books[i])
    (legend,) = figure.legends
    self.assertEqual(
      [text.get_text() for text in legend.get_texts()],
      ["[16,4]", "[32,2]", "[64,1]"],
    )

  def test_reconstructions_of_a_model_without_a_choice(self):
    images = np.zeros((2, 8, 8, 3), np.uint8)
    rows = [("original", images), ("reconstruction", images)]
    pictures.draw_reconstructions(self.root / "x.png", rows)
    self.assertLen(plt.gcf().axes, 4)
    self.assertEmpty(plt.gcf().legends)

  def test_reconstructions_at_several_rates(self):
    images = np.zeros((2, 8, 8, 1), np.uint8)
    rows = [(title, images) for title in ("original", "2 bits", "2 bits")]
    bits = np.arange(8.0).reshape(2, 2, 2)
    pictures.draw_reconstructions(
      self.root / "x.png", rows, np.zeros((2, 2, 2), int), CHOICE, bits
    )
    axes = plt.gcf().axes
    titles = [ax.get_ylabel() for ax in axes[0:10:2]]
    self.assertEqual(titles, ["original", "2 bits", "2 bits", "bits", "book"])
    np.testing.assert_array_equal(axes[7].images[0].get_array(), bits[1])
    # The scale of colours is that of all images.
    self.assertEqual(axes[6].images[0].get_clim(), (0, 7))
    self.assertEqual(axes[10].get_ylabel(), "bits")

  def test_selection(self):
    lines = [
      {"step": 1, "split": "train", "values": {"selection": [0.2, 0.3, 0.5]}},
      {"step": 2, "split": "train", "values": {"selection": [0.1, 0.3, 0.6]}},
      {"step": 2, "split": "validation", "values": {"selection": [0, 0, 1]}},
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (self.root / "metrics.jsonl").write_text(text)
    pictures.draw_selection(self.root / "selection.png", CHOICE, True)
    figure = plt.gcf()
    train, validation = figure.axes
    self.assertLen(train.lines, 3)
    np.testing.assert_array_equal(train.lines[2].get_ydata(), [0.5, 0.6])
    np.testing.assert_array_equal(validation.lines[2].get_xdata(), [2])
    (legend,) = figure.legends
    self.assertLen(legend.get_texts(), 3)
