from unittest import mock

from absl.testing import parameterized

from experiments.configs import changes
from experiments.configs import fashion_mnist
from experiments.configs import photo_patches
from experiments.configs import variant_table
from experiments.configs import variants
from experiments.configs.variant_table import Family
from experiments.configs.variant_table import Variant
from experiments.configs.variants import UnknownVariantError

# One name of each family, and what it makes.
FAMILIES = {
  "fixed_NxD": ("fixed_512x128", "[512,128]", "512,128"),
  "reference_fixed_NxD": (
    "reference_fixed_512x128",
    "As the authors' code, fixed [512,128]",
    "512,128",
  ),
  "pytorch_init_fixed_NxD": (
    "pytorch_init_fixed_512x128",
    "PyTorch's initial values, fixed [512,128]",
    "512,128",
  ),
  "adaptive_lr_X": (
    "adaptive_lr_1e-3",
    "Adaptive, learning rate 1e-3",
    "lr_1e-3",
  ),
  "adaptive_entropy_X": (
    "adaptive_entropy_0.1",
    "Adaptive, a bit of entropy earns 0.1",
    "entropy_0.1",
  ),
  "improved_rate_X": (
    "improved_rate_3e-4",
    "Improved, a bit costs 3e-4",
    "rate_3e-4",
  ),
  "priced_SxNxD": ("priced_4x64x32", "Priced, 4 x [64,32]", "4 x 64,32"),
  "priced_nominal_SxNxD": (
    "priced_nominal_4x64x32",
    "Priced by nominal bits, 4 x [64,32]",
    "4 x 64,32",
  ),
  "priced_fixed_NxD": ("priced_fixed_64x4", "Priced, [64,4]", "64,4"),
  "improved_fixed_NxD": (
    "improved_fixed_131072x8",
    "Improved, fixed [131072,8]",
    "131072,8",
  ),
  "improved_attention_SxNxD": (
    "improved_attention_3x256x32",
    "Improved, depth by attention, 3 x [256,32]",
    "attention 3 x 256,32",
  ),
  "dvae_NxD": ("dvae_512x64", "dVAE, [512,64]", "dVAE 512,64"),
  "sq_vae_NxD": ("sq_vae_512x64", "SQ-VAE, [512,64]", "SQ-VAE 512,64"),
  "improved_w_N": ("improved_w_4096", "Improved, W = 4096", "w_4096"),
  "improved_lr_X": (
    "improved_lr_0.001",
    "Improved, learning rate 0.001",
    "lr_0.001",
  ),
  "improved_attention_entropy_X": (
    "improved_attention_entropy_1e-2",
    "Improved, choice by attention, a bit of entropy earns 1e-2",
    "attention_entropy_1e-2",
  ),
}


class VariantsTest(parameterized.TestCase):
  @parameterized.parameters(
    ("w_4096", "quantizer.capacity", 4096),
    ("without_ema", "quantizer.update", "gradient"),
    ("alpha_0.75", "quantizer.commitment_cost", 0.75),
    ("beta_0.2", "model.quantization_weight", 0.2),
    ("adaptive_constant_temperature", "sampling.temperature", "constant"),
    ("cnn_inception", "model.network", "cnn_inception"),
    ("reference_selection_unit", "quantizer.selection_unit", "channels"),
    ("reference_selection_logits", "quantizer.choice.logits", "weights"),
    ("reference_update_rule", "quantizer.update", "smoothed_ema"),
    ("reference_output_kernel", "quantizer.output_kernel", 3),
    ("reference_gradient_gap", "gradient_gap", "mean_absolute"),
    ("reference_kernels", "model.initial.kernel", "pytorch"),
    ("reference_biases", "model.initial.bias", "pytorch"),
    ("reference_projections", "quantizer.projection_init", "pytorch"),
    ("reference_attention", "quantizer.choice.input_init", "pytorch"),
    (
      "reference_decoder_first_convolution",
      "model.decoder_first_convolution",
      False,
    ),
    (
      "reference_draw_in_evaluation",
      "sampling.draw_in_evaluation",
      True,
    ),
  )
  def test_a_variant_changes_one_field(self, variant, field, value):
    base = photo_patches.get_config("adaptive")
    config = photo_patches.get_config(variant)
    changes.apply(base, {"variant": variant, field: value})
    self.assertEqual(config.to_dict(), base.to_dict())

  @parameterized.parameters(
    ("adaptive_lr_3e-3", "adaptive", {"learning_rate": 3e-3}),
    ("improved_lr_0.001", "improved", {"learning_rate": 1e-3}),
    ("improved_rate_1e-4", "improved", {"quantizer.choice.rate_weight": 1e-4}),
    ("improved_rate_0", "improved", {}),
    ("improved_w_262144", "improved", {"quantizer.capacity": 262144}),
    (
      "adaptive_entropy_0.1",
      "adaptive",
      {"quantizer.choice.entropy_weight": 0.1},
    ),
    (
      "improved_attention_entropy_1e-3",
      "improved_attention",
      {"quantizer.choice.entropy_weight": 1e-3},
    ),
    (
      "pytorch_init_fixed_16x2",
      "fixed_16x2",
      {
        "model.initial.kernel": "pytorch",
        "model.initial.bias": "pytorch",
        "quantizer.projection_init": "pytorch",
      },
    ),
    (
      "reference_fixed_16x2",
      "reference",
      {
        "sampling.draw_in_evaluation": False,
        "quantizer.kind": "vector",
        "quantizer.codebook_size": 16,
        "quantizer.embedding_dim": 2,
      },
    ),
    (
      "improved_fixed_16x2",
      "improved",
      {
        "quantizer.kind": "vector",
        "quantizer.codebook_size": 16,
        "quantizer.embedding_dim": 2,
      },
    ),
  )
  def test_families_of_variants(self, variant, base, changed):
    expected = fashion_mnist.get_config(base)
    changes.apply(expected, {"variant": variant, **changed})
    config = fashion_mnist.get_config(variant)
    self.assertEqual(config.to_dict(), expected.to_dict())

  def test_what_improves_takes_nothing_from_the_rest(self):
    adaptive = fashion_mnist.get_config("adaptive")
    fashion_mnist.get_config("improved_fixed_16x2")
    self.assertEqual(
      fashion_mnist.get_config("adaptive").to_dict(), adaptive.to_dict()
    )

  @parameterized.parameters(*variant_table.FAMILIES)
  def test_a_name_of_a_family_makes_one_of_its_group(self, family):
    name, title, label = FAMILIES[family]
    variant = variants.find("mnist", name)
    self.assertEqual(variant.title, title)
    self.assertEqual(variant.label, label)
    example = variant_table.FAMILIES[family].example
    self.assertEqual(variants.family_of(example)[0], family)
    self.assertEqual(variants.find("mnist", example).group, variant.group)

  def test_the_quick_start_belongs_to_one_data_set(self):
    self.assertIn("quick_start", variants.names("photo_patches"))
    with self.assertRaisesRegex(UnknownVariantError, "'quick_start' of fashio"):
      fashion_mnist.get_config("quick_start")

  @parameterized.parameters(
    ("adaptiv", "adaptive"),
    ("Adaptive", "adaptive"),
    ("refrence_14_bits", "reference_14_bits"),
    ("alpha_0.55", "alpha_0.5"),
    ("fixed", "fixed_NxD, such as fixed_512x128"),
    ("fixed_512", "fixed_NxD, such as fixed_512x128"),
    ("fixed_512x", "fixed_NxD, such as fixed_512x128"),
    ("fixed512x128", "fixed_NxD, such as fixed_512x128"),
    ("improved_fixd_2x1", "improved_fixed_NxD, such as improved_fixed_2048x32"),
    ("improved_rate_", "improved_rate_X, such as improved_rate_3e-4"),
    ("improved_w_1e3", "improved_w_N, such as improved_w_262144"),
    ("adaptve_lr_1e-3", "adaptive_lr_X, such as adaptive_lr_1e-3"),
    ("cnn_lr_1", None),
    ("gamma", None),
    ("", None),
    ("help", None),
  )
  def test_an_unknown_variant_names_what_may_be_meant(self, name, meant):
    message = f"^unknown variant '{name}' of photo_patches; "
    message += f"did you mean {meant}[?] " if meant else ""
    message += "--config=FILE:help lists all$"
    with self.assertRaisesRegex(UnknownVariantError, message) as context:
      photo_patches.get_config(name)
    self.assertEqual(
      context.exception.details, variants.describe("photo_patches")
    )

  def test_a_list_has_all_in_groups_each_in_a_line(self):
    groups = {}
    for block in variants.describe("photo_patches").split("\n\n")[1:]:
      heading, *lines = block.splitlines()
      groups[heading] = dict(line.split(maxsplit=1) for line in lines)
    self.assertEqual(list(groups), list(variant_table.GROUPS.values()))
    listed = [name for lines in groups.values() for name in lines]
    self.assertCountEqual(
      listed, [*variant_table.VARIANTS, *variant_table.FAMILIES]
    )
    self.assertEqual(
      groups["One codebook"]["fixed_NxD"],
      "N codewords of width D, such as fixed_512x128",
    )
    of_table_3 = groups[variant_table.GROUPS["table_3"]]
    self.assertEqual(of_table_3["cnn"], "CNN (model.network=cnn)")
    self.assertNotIn("quick_start", variants.describe("mnist"))

  def test_a_new_variant_or_family_is_a_row_of_data(self):
    own = Variant("Own", "table_3", {"seed": 5})
    family = Family("A seed", "seed_5", lambda n: Variant(n, "table_3"))
    self.enter_context(mock.patch.dict(variant_table.VARIANTS, {"own": own}))
    self.enter_context(
      mock.patch.dict(variant_table.FAMILIES, {"seed_N": family})
    )
    self.assertEqual(fashion_mnist.get_config("own").seed, 5)
    self.assertEqual(variants.find("mnist", "seed_7").title, "7")
    self.assertRegex(
      variants.describe("mnist"), r"\n  seed_N +A seed, such as seed_5\n"
    )
