from absl.testing import parameterized

from experiments.configs import datasets
from experiments.errors import UserError


class DatasetsTest(parameterized.TestCase):
  @parameterized.parameters(*datasets.GET_CONFIG)
  def test_a_config_has_the_name_of_its_data_set(self, name):
    config = datasets.default_config(name, "fixed_512x128")
    self.assertEqual((config.name, config.variant), (name, "fixed_512x128"))
    self.assertEqual(datasets.default_config(name).variant, "adaptive")

  def test_an_unknown_one_is_refused_with_those_that_there_are(self):
    with self.assertRaisesRegex(
      UserError, "^unknown data set 'imagenet'; known are mnist, fashion_mnist"
    ):
      datasets.default_config("imagenet")
