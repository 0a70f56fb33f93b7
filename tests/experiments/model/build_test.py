import json

from absl.testing import parameterized

from adq_jax import AdaptiveQuantizer
from adq_jax import AttentionChoice
from adq_jax import DistortionChoice
from adq_jax import Placement
from adq_jax import SmoothedEmaUpdate
from adq_jax import VectorQuantizer
from experiments.configs import changes
from experiments.configs import fashion_mnist
from experiments.configs import photo_patches
from experiments.configs import whole
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
    self.assertEqual(model.quantizer.num_stages, 3)
    self.assertTrue(model.has_price)

  def test_a_pool_of_any_structures(self):
    config = photo_patches.get_config("adaptive")
    config.quantizer.structures = ((1, 8), (300, 8), (50, 3))
    config.quantizer.capacity = 0
    quantizer = build.create_quantizer(config)
    self.assertEqual(quantizer.structures, ((1, 8), (300, 8), (50, 3)))

  def test_every_field_reaches_the_quantizer(self):
    config = photo_patches.get_config("adaptive")
    changes.apply(
      config,
      {
        "model.features": 12,
        "quantizer.structures": ((8, 2), (4, 3)),
        "quantizer.capacity": 0,
        "quantizer.choice.num_heads": 3,
        "quantizer.choice.entropy_weight": 0.5,
        "quantizer.choice.logits": "weights",
        "quantizer.selection_unit": "channels",
        "quantizer.commitment_cost": 2.0,
        "quantizer.update": "smoothed_ema",
        "quantizer.update.decay": 0.5,
        "quantizer.placement.init": "kmeans",
        "quantizer.placement.kmeans_iterations": 5,
        "quantizer.placement.revive_below": 0.25,
        "quantizer.output_kernel": 3,
      },
    )
    self.assertEqual(
      build.create_quantizer(config, "devices"),
      AdaptiveQuantizer(
        structures=((8, 2), (4, 3)),
        features=12,
        choice=AttentionChoice(3, 0.5, "weights"),
        selection_unit="channels",
        commitment_cost=2.0,
        update=SmoothedEmaUpdate(0.5),
        placement=Placement("kmeans", 0.25, kmeans_iterations=5),
        output_kernel=3,
        axis_name="devices",
      ),
    )
    changes.apply(
      config,
      {"quantizer.choice": "distortion", "quantizer.choice.rate_weight": 0.5},
    )
    self.assertEqual(
      build.create_quantizer(config).choice, DistortionChoice(0.5)
    )

  def test_a_codebook_is_sharded_over_an_axis_alone(self):
    config = photo_patches.get_config("fixed_16x4")
    config.quantizer.shard_codebook = True
    self.assertEqual(build.create_model(config, "devices").sharded_size, 16)
    self.assertEqual(build.create_model(config).sharded_size, 0)

  @parameterized.parameters(
    "improved", "without_ema", "reference", "fixed_16x4", "quick_start"
  )
  def test_what_is_built_depends_on_fields_alone(self, variant):
    config = photo_patches.get_config(variant)
    built = build.create_model(config)
    as_stored = json.loads(json.dumps(config.to_dict()))
    self.assertEqual(build.create_model(whole.complete(as_stored)), built)
    self.assertEqual(hash(built), hash(build.create_model(config)))
