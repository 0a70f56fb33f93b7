from unittest import mock

from absl.testing import parameterized

from experiments.configs import changes
from experiments.configs import fashion_mnist
from experiments.configs import photo_patches
from experiments.configs import variants
from experiments.errors import UserError
from experiments.model import check
from experiments.study import contents
from experiments.study import trials
from tests.support import sources

CONFIGS = (photo_patches, fashion_mnist)


class CheckTest(parameterized.TestCase):
  @parameterized.product(
    module=CONFIGS,
    variant=(
      *variants.names("fashion_mnist"),
      "fixed_512x128",
      "fixed_65536x1",
      "improved_fixed_131072x8",
      "improved_rate_3e-4",
    ),
  )
  def test_every_config_is_right(self, module, variant):
    check.check(module.get_config(variant))

  @parameterized.parameters(*contents.TABLES)
  def test_there_is_a_config_for_every_row_of_a_table(self, table):
    for variant in contents.TABLES[table].rows:
      check.check(trials.default_config("fashion_mnist", variant))

  def test_the_quick_start(self):
    config = photo_patches.get_config()
    self.assertEqual(config.variant, "quick_start")
    check.check(config)

  @parameterized.parameters("log_every", "eval_every", "checkpoint_every")
  def test_what_steps_started_together_do_not_divide(self, field):
    config = photo_patches.get_config("quick_start_attention")
    config.log_every = config.eval_every = config.checkpoint_every = 20
    config.steps_per_call = 10
    check.check(config)
    config[field] = 25
    with self.assertRaisesRegex(UserError, f"config.{field} is 25.*_call, 10"):
      check.check(config)

  @parameterized.parameters(
    ("data.image_size", 30, "a multiple of config.model.downsampling, 4"),
    ("model.downsampling", 3, "a power of two"),
    ("model.network", "vit", "one of 'cnn', 'cnn_resnet', 'cnn_inception'"),
    ("dtype", "float16", "one of float32, bfloat16"),
    ("batch_size", 0, "at least 1"),
    ("num_steps", 0, "at least 1"),
    ("steps_per_call", 0, "at least 1"),
    ("log_every", 0, "at least 1"),
    ("learning_rate", -1.0, "at least 0"),
    ("learning_rate", float("nan"), "a finite number"),
    ("schedule", "step", "one of constant, cosine"),
    ("sampling.temperature", "high", "one of linear, constant"),
    ("name", "imagenet", "one of mnist, fashion_mnist, cifar10"),
    ("quantizer.update.decay", 1.0, r"in \[0, 1\)"),
    ("quantizer.choice.num_heads", 3, "it must divide the 64 features"),
    ("quantizer.choice.entropy_weight", -1, "at least 0"),
    ("quantizer.choice.logits", "x", "one of 'log_weights', 'weights'"),
    ("quantizer.placement.init", "x", "'normal', 'data', 'kmeans'"),
    ("quantizer.placement.kmeans_iterations", 0, "at least 1"),
    ("quantizer.placement.revive_below", -1, "at least 0"),
    ("quantizer.commitment_cost", -1, "at least 0"),
    ("quantizer.output_kernel", 2, "odd"),
    ("quantizer.projection_init", "x", "one of 'identity', 'pytorch'"),
    ("quantizer.choice.input_init", "x", "one of 'lecun_normal', 'pytorch'"),
    ("model.initial.kernel", "x", "one of 'lecun_normal', 'pytorch'"),
    ("model.initial.bias", "x", "one of 'zeros', 'pytorch'"),
    ("quantizer.selection_unit", "x", "one of 'position', 'channels'"),
    ("quantizer.capacity", 1000, "a multiple of 16"),
    ("quantizer.structures", ((64, 128),), "N > D"),
    ("quantizer.structures", (512, 128), "pairs of integers"),
    ("quantizer.structures", (("512x128", 1),), "pairs of integers"),
    ("quantizer.structures", ((512, 128), (512, 64)), "65536"),
    ("quantizer.structures", ((512.0, 128),), "pairs of integers"),
    ("quantizer.structures", ((True, 128),), "pairs of integers"),
    ("quantizer.structures", ((512, 128, 1),), "pairs of integers"),
    ("quantizer.structures", ((2**31, 1),), "at most 2147483647"),
    ("quantizer.capacity", 2**63, "64 bits"),
    ("quantizer.capacity", 2**40, "at most 2147483647"),
    ("seed", 2**32, "at most 4294967295"),  # JAX would take it for 0
    ("num_steps", 2**31, "at most 2147483647"),
    ("max_skipped", 2**31, "at most 2147483647"),
    ("quantizer.kind", "vq", "one of adaptive, vector"),
    ("quantizer.update", "sgd", "one of ema, smoothed_ema, gradient"),
  )
  def test_a_field_that_cannot_work_is_named(self, field, value, message):
    config = photo_patches.get_config("quick_start_attention")
    with self.assertRaisesRegex(UserError, f"config.{field}.*{message}") as e:
      changes.apply(config, {field: value})
      check.check(config)
    self.assertNotIn("\n", str(e.exception))

  @parameterized.parameters(
    ("mnist", 64),
    ("fashion_mnist", 64),
    ("cifar10", 64),
    ("tiny_imagenet", 24),
    ("celeba", 2),
    ("diabetic_retinopathy", 1),
  )
  def test_the_papers_settings(self, name, batch_size):
    for variant in ("adaptive", "fixed_512x128"):
      config = sources.CONFIGS[name].get_config(variant)
      check.check(config)
      self.assertEqual(config.name, name)
      self.assertEqual(config.batch_size, batch_size)
      self.assertEqual(config.data.paper_batch_size, batch_size)
      self.assertEqual(config.learning_rate, 1e-4)
      self.assertEqual(config.model.downsampling, 4)

  @parameterized.parameters("memory_budget_gib", "resize_to")
  def test_a_field_that_only_some_have(self, field):
    check.check(photo_patches.get_config("quick_start_attention"))
    config = sources.CONFIGS["celeba"].get_config()
    config.data[field] = -1
    with self.assertRaisesRegex(UserError, f"config.data.{field} is -1.*least"):
      check.check(config)

  @parameterized.parameters(
    (-1.0, 1.0, "lowest is -1.0; it must be at least 0"),
    (2.0, 1.0, "lowest is 2.0; it must be above 0 and below .*highest, 1.0"),
    (0.0, 1.0, "lowest is 0.0; it must be above 0"),
    (1.0, 0.0, "lowest is 1.0; .* or both 0"),
    (1.0, 1.0, "lowest is 1.0; .* below .*highest, 1.0"),
    (1.0, float("nan"), "highest is nan"),
  )
  def test_a_range_of_prices(self, lowest, highest, message):
    config = photo_patches.get_config("priced_2x8x4")
    check.check(config)
    config.rate_weight.lowest, config.rate_weight.highest = lowest, highest
    with self.assertRaisesRegex(UserError, f"config.rate_weight.{message}"):
      check.check(config)

  def test_prices_are_for_quantizers_that_have_one(self):
    config = photo_patches.get_config("fixed_16x4")
    changes.apply(
      config, {"rate_weight.lowest": 0.1, "rate_weight.highest": 1.0}
    )
    with self.assertRaisesRegex(UserError, "highest is 1.0; it must be 0 unl"):
      check.check(config)
    changes.apply(config, {"quantizer.price": "coded"})
    check.check(config)

  def test_smoothed_averages_place_no_codewords(self):
    config = photo_patches.get_config("quick_start_attention")
    changes.apply(config, {"quantizer.update": "smoothed_ema"})
    config.quantizer.placement.revive_below = 0.1
    with self.assertRaisesRegex(
      UserError, "^config.quantizer.update is SmoothedEmaUpdate"
    ):
      check.check(config)

  @parameterized.parameters("codebook_size", "embedding_dim")
  def test_a_codebook_has_codewords_of_some_width(self, field):
    config = photo_patches.get_config("fixed_64x64")
    check.check(config)
    config.quantizer[field] = 0
    with self.assertRaisesRegex(UserError, f"config.quantizer.{field} is 0; "):
      check.check(config)
    config.quantizer[field] = 2**31
    with self.assertRaisesRegex(UserError, f"{field} is .*at most 2147483647"):
      check.check(config)

  def test_a_pool_of_any_structures(self):
    config = photo_patches.get_config("adaptive")
    config.quantizer.structures = ((1, 8), (300, 8), (50, 3))
    with self.assertRaisesRegex(UserError, r"\[1,8\]"):
      check.check(config)
    config.quantizer.capacity = 0
    check.check(config)
    config.quantizer.structures = ((4, 0),)
    with self.assertRaisesRegex(UserError, r"\[4,0\].*positive"):
      check.check(config)
    config.quantizer.structures = ()
    with self.assertRaisesRegex(UserError, "capacity is 0"):
      check.check(config)


class SizeTest(parameterized.TestCase):
  """Nothing is allocated before it is known to be too much."""

  @parameterized.parameters(
    ({"batch_size": 10**9}, "batch_size is 1000000000 and config.data.image_s"),
    ({"data.image_size": 10**8}, "batch_size is 64 .*image_size is 100000000"),
    ({"model.features": 10**8}, "config.model.features is 100000000"),
    (
      {"quantizer.structures": ((2**31 - 1, 2**16),), "quantizer.capacity": 0},
      r"config.quantizer.structures is \(\(2147483647, 65536\),\)",
    ),
    (
      {
        "quantizer.kind": "vector",
        "quantizer.codebook_size": 2**31 - 1,
        "quantizer.embedding_dim": 2**16,
      },
      "codebook_size is 2147483647 and config.quantizer.embedding_dim is 65536",
    ),
    (
      {"quantizer.structures": ((10, 10**12),), "quantizer.capacity": 0},
      r"structures makes the structure \[10,1000000000000\]; both must be",
    ),
    (
      {"quantizer.capacity": 2**45},
      r"capacity makes the structure \[274877906944,128\]; both",
    ),
  )
  def test_what_no_machine_holds_is_named(self, changed, message):
    config = photo_patches.get_config("adaptive")
    changes.apply(config, changed)
    with self.assertRaisesRegex(UserError, message) as context:
      check.check(config)
    self.assertNotIn("\n", str(context.exception))

  def test_the_machine_decides(self):
    config = photo_patches.get_config("quick_start_attention")
    config.batch_size = 2**20  # 3 GiB of images
    for gib, is_right in ((2, False), (4, True)):
      memory = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": gib * 2**18}
      with mock.patch.object(check.os, "sysconf", memory.get):
        if is_right:
          check.check(config)
          continue
        with self.assertRaisesRegex(UserError, "at least 3 GiB; .* has 2 GiB"):
          check.check(config)

  def test_processes_share_a_batch_and_a_sharded_codebook(self):
    config = photo_patches.get_config("fixed_1024x64")
    config.batch_size = 2**20
    config.quantizer.codebook_size = 2**23  # 4 GiB with their sums
    config.quantizer.embedding_dim = 64
    config.quantizer.shard_codebook = True
    memory = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 3 * 2**18}
    self.enter_context(mock.patch.object(check.os, "sysconf", memory.get))
    with self.assertRaisesRegex(UserError, "at least 4 GiB"):
      check.check(config)
    self.enter_context(
      mock.patch.object(check.jax.distributed, "is_initialized", lambda: True)
    )
    self.enter_context(mock.patch.object(check.jax, "process_count", lambda: 2))
    check.check(config)

  def test_a_batch_larger_than_the_training_split(self):
    config = photo_patches.get_config("quick_start_attention")
    config.batch_size = 3840
    check.check_batch(config, 3840)
    config.batch_size = 3841
    with self.assertRaisesRegex(
      UserError, "config.batch_size is 3841; it must be at most 3840, the train"
    ):
      check.check_batch(config, 3840)
