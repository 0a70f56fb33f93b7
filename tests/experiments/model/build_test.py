from absl.testing import parameterized

from adq_jax import AdaptiveQuantizer
from adq_jax import VectorQuantizer
from experiments.configs import fashion_mnist
from experiments.configs import photo_patches
from experiments.model import build


class BuildTest(parameterized.TestCase):
  @parameterized.parameters(
    ("adaptive", AdaptiveQuantizer),
    ("improved", AdaptiveQuantizer),
    ("fixed_512x128", VectorQuantizer),
    ("improved_fixed_131072x8", VectorQuantizer),
  )
  def test_the_quantizer_is_of_the_kind_and_the_models_width(
    self, variant, kind
  ):
    for module in (photo_patches, fashion_mnist):
      config = module.get_config(variant)
      config.model.features = 48
      model = build.create_model(config)
      self.assertIsInstance(model.quantizer, kind)
      self.assertEqual(model.quantizer.features, 48)
      self.assertEqual(model.features, 48)

  def test_the_quick_start(self):
    model = build.create_model(photo_patches.get_config())
    self.assertEqual(model.features, 64)
    self.assertEqual(model.network, "cnn")
    self.assertLen(model.quantizer.structures, 8)

  def test_a_pool_of_any_structures(self):
    config = photo_patches.get_config("adaptive")
    config.quantizer.structures = ((1, 8), (300, 8), (50, 3))
    model = build.create_model(config)
    self.assertEqual(model.quantizer.structures, ((1, 8), (300, 8), (50, 3)))
