from absl.testing import parameterized

from experiments.study import plot_list


class PlotListTest(parameterized.TestCase):
  def test_figures_have_names_of_their_own(self):
    names = [plot.name for plot in plot_list.PLOTS + plot_list.OVERVIEWS]
    self.assertLen(set(names), len(names))

  @parameterized.parameters(
    ("any", True, True), ("grey", True, False), ("colour", False, True)
  )
  def test_the_images_that_a_figure_shows(self, images, of_grey, of_others):
    plot = plot_list.Plot("name", "Caption.", print, str, images)
    self.assertEqual(plot.is_of(True), of_grey)
    self.assertEqual(plot.is_of(False), of_others)

  def test_every_figure_says_what_it_lacks(self):
    for plot in plot_list.PLOTS + plot_list.OVERVIEWS:
      self.assertRegex(plot.lacks({}), "^needs (the adaptive|[13] fixed) ")
