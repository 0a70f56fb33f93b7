from absl.testing import parameterized
import ml_collections

from experiments.configs import changes
from experiments.configs import datasets
from experiments.configs import fields
from experiments.errors import UserError
from tests.support import field_types

_WRONG_TEXTS = {
  bool: ("no", "2", "", "1.0"),
  int: ("x", "1.5", "2.0", "1e3", "True", "", "9" * 5000),
  float: ("x", "True", "", "nan", "1e39", "0.1.2"),
  str: ("a\0b",),
  tuple: ("x", "3", "(1,", "", "(" * 500),
}


def flat(config):
  return fields.flatten(config.to_dict())


def change(config, *texts):
  changes.apply_texts(config, [tuple(text.split("=", 1)) for text in texts])


def changed(*texts, variant="adaptive", name="mnist"):
  config = datasets.default_config(name, variant).lock()
  change(config, *texts)
  return config


# CelebA's config has every field that there is.
_FIELDS = flat(datasets.default_config("celeba"))
_POOL = "capacity, choice, commitment_cost, "


class TextsTest(parameterized.TestCase):
  @parameterized.parameters(*_FIELDS)
  def test_every_field_has_a_type(self, field):
    kind = type(_FIELDS[field])
    wanted = field_types.wanted(field, kind)
    config = datasets.default_config("celeba").lock()
    for text in _WRONG_TEXTS[kind]:
      with self.assertRaisesRegex(
        UserError, rf"^config.{field} is .*; it must be {wanted}"
      ):
        change(config, f"{field}={text}")
    self.assertEqual(flat(config), _FIELDS)

  @parameterized.parameters(
    ("check_replicas", "true", True),
    ("check_replicas", "False", False),
    ("num_steps", "5", 5),
    ("num_steps", "1_000", 1000),
    ("learning_rate", "1e-3", 1e-3),
    ("learning_rate", "1", 1.0),
    ("data.memory_budget_gib", "inf", float("inf")),
    ("data.data_dir", "2024", "2024"),
    ("data.data_dir", "", ""),
    ("quantizer.structures", "((512, 128),)", ((512, 128),)),
    ("quantizer.structures", "[[512, 128], [4, 2]]", ((512, 128), (4, 2))),
    ("quantizer.structures", "()", ()),
    ("quantizer.update.decay", "0.5", 0.5),
    ("data.attributes", "('Bald', 'Bangs')", ("Bald", "Bangs")),
  )
  def test_a_text_becomes_a_value_of_the_fields_type(self, field, text, value):
    config = changed(f"{field}={text}", name="celeba")
    self.assertEqual(repr(flat(config)[field]), repr(value))
    self.assertTrue(config.is_locked)
    self.assertTrue(config.quantizer["update"].is_locked)

  def test_of_one_field_the_last_text_counts(self):
    self.assertEqual(changed("seed=1", "seed=2").seed, 2)


class NamesTest(parameterized.TestCase):
  @parameterized.parameters(
    ("num_stpes", "did you mean num_steps?"),
    ("batchsize", "did you mean batch_size?"),
    ("num_heads", "did you mean quantizer.choice.num_heads?"),
    ("heads", "did you mean quantizer.choice.num_heads?"),
    ("quantizer.feature", "did you mean model.features? config.quantizer of"),
    ("quantiser.decay", "did you mean quantizer.update.decay?"),
    ("data.image_sise", "did you mean data.image_size?"),
    ("seed.a", "base.py and mnist.py list all fields"),
    ("data.resize_to", "base.py and mnist.py list all fields"),
    ("lr", "base.py and mnist.py list all fields"),
    ("", "base.py and mnist.py list all fields"),
    ("a\nb", "base.py and mnist.py list all fields"),
  )
  def test_a_misspelt_field_is_named_with_what_is_meant(self, field, remedy):
    with self.assertRaises(UserError) as context:
      change(datasets.default_config("mnist").lock(), f"{field}=5")
    message = str(context.exception)
    self.assertIn(f"the config of mnist has no field {field!r}; ", message)
    self.assertIn(remedy, message)

  @parameterized.parameters("model", "quantizer", "data", "sampling")
  def test_a_group_is_no_field(self, group):
    with self.assertRaisesRegex(
      UserError, f"config.{group} is .*3.*; it must be a group of fields"
    ):
      change(datasets.default_config("mnist").lock(), f"{group}=3")

  @parameterized.parameters(
    (
      "fixed_16x4",
      "quantizer.num_heads",
      "config.quantizer.num_heads is config.quantizer.choice.num_heads now;"
      " config.quantizer of kind 'vector' has assignment, codebook_size,",
    ),
    (
      "fixed_16x4",
      "quantizer.choice.num_heads",
      "no field 'quantizer.choice.num_heads'; config.quantizer of kind"
      " 'vector' has assignment, codebook_size, codewords, ",
    ),
    (
      "fixed_16x4",
      "quantizer.choice",
      "no field 'quantizer.choice'; .* of kind 'vector' has assignment, codeb",
    ),
    (
      "fixed_16x4",
      "quantizer.choice.kind",
      "no field 'quantizer.choice.kind'; .* of kind 'vector' has assignment",
    ),
    (
      "adaptive",
      "quantizer.shard_codebook",
      "no field 'quantizer.shard_codebook'; .* of kind 'adaptive' has " + _POOL,
    ),
    (
      "adaptive",
      "quantizer.choice.rate_weight",
      "no field 'quantizer.choice.rate_weight'; config.quantizer.choice of"
      " kind 'attention' has entropy_weight, input_init, logits, num",
    ),
    (
      "improved",
      "quantizer.choice.rate_wieght",
      "did you mean quantizer.choice.rate_weight.*'distortion' has rate",
    ),
  )
  def test_a_field_that_a_kind_lacks_is_named_with_those_it_has(
    self, variant, field, message
  ):
    with self.assertRaisesRegex(UserError, message) as context:
      changed(f"{field}=1", variant=variant)
    self.assertNotIn("\n", str(context.exception))

  @parameterized.parameters(
    ("temperature", "sampling.temperature"),
    ("quantizer.draw_in_evaluation", "sampling.draw_in_evaluation"),
    ("quantizer.update_rule", "quantizer.update"),
    ("quantizer.decay", "quantizer.update.decay"),
    ("quantizer.codebook_init", "quantizer.placement.init"),
    ("quantizer.revive_below", "quantizer.placement.revive_below"),
    ("quantizer.selection", "quantizer.choice"),
    ("quantizer.num_heads", "quantizer.choice.num_heads"),
    ("quantizer.selection_logits", "quantizer.choice.logits"),
    ("quantizer.entropy_weight", "quantizer.choice.entropy_weight"),
  )
  def test_an_earlier_name_is_told_the_one_of_now(self, old, new):
    with self.assertRaisesRegex(
      UserError, f"^config.{old} is config.{new} now$"
    ):
      changed(f"{old}=1")

  def test_an_earlier_name_of_another_kind(self):
    with self.assertRaisesRegex(
      UserError, "is config.quantizer.choice.rate_weight now; .* 'attention' "
    ):
      changed("quantizer.rate_weight=1")
    with self.assertRaisesRegex(
      UserError, "^config.quantizer.kind fixed is vector now$"
    ):
      changed("quantizer.kind=fixed")


class KindsTest(parameterized.TestCase):
  def test_a_slot_is_changed_by_the_name_of_a_kind(self):
    for field in ("quantizer.update", "quantizer.update.kind"):
      config = changed(f"{field}=gradient", "quantizer.update.decay=0.5")
      self.assertEqual(
        config.quantizer["update"].to_dict(),
        {"kind": "gradient", "decay": 0.5, "codebook_cost": 1.0},
      )
      self.assertTrue(config.is_locked)
      self.assertTrue(config.quantizer["update"].is_locked)

  def test_what_both_kinds_have_keeps_its_value(self):
    config = changed("quantizer.update.decay=0.5")
    change(config, "quantizer.update=gradient")
    self.assertEqual(config.quantizer["update"].decay, 0.5)
    config = changed("quantizer.choice.num_heads=4")
    change(config, "quantizer.choice=distortion")
    self.assertEqual(
      config.quantizer.choice.to_dict(),
      {"kind": "distortion", "rate_weight": 0.0},
    )
    change(config, "quantizer.choice=attention")
    self.assertEqual(config.quantizer.choice.num_heads, 2)

  @parameterized.parameters(False, True)
  def test_the_order_of_changes_means_nothing(self, is_reversed):
    texts = ["quantizer.choice=distortion", "quantizer.choice.rate_weight=0.1"]
    config = changed(*(reversed(texts) if is_reversed else texts))
    self.assertEqual(
      config.quantizer.choice.to_dict(),
      {"kind": "distortion", "rate_weight": 0.1},
    )
    texts = [
      "quantizer.kind=vector",
      "quantizer.update=gradient",
      "quantizer.codebook_size=16",
      "quantizer.embedding_dim=4",
    ]
    config = changed(*(reversed(texts) if is_reversed else texts))
    self.assertEqual(config.quantizer["update"].kind, "gradient")
    self.assertEqual(config.quantizer.codebook_size, 16)

  def test_another_kind_of_quantizer_keeps_what_both_have(self):
    config = changed(
      "quantizer.kind=vector",
      "quantizer.codebook_size=16",
      "quantizer.embedding_dim=4",
      variant="improved",
    )
    expected = datasets.default_config("mnist", "improved_fixed_16x4")
    self.assertEqual(config.quantizer.to_dict(), expected.quantizer.to_dict())

  @parameterized.parameters(
    ((), "codebook_size and config.quantizer.embedding_dim; give --config.q"),
    (
      ("quantizer.codebook_size=16",),
      "needs config.quantizer.embedding_dim; give --config.quantizer.embeddi",
    ),
  )
  def test_another_kind_needs_its_sizes(self, texts, message):
    with self.assertRaisesRegex(
      UserError, f"kind is 'vector', which.*{message}"
    ):
      changed("quantizer.kind=vector", *texts)

  @parameterized.parameters(
    ("quantizer.update=sgd", "update.kind is 'sgd'; .* ema, smoothed_ema, gra"),
    ("quantizer.choice=", "choice.kind is ''; .* one of attention, distortion"),
    ("quantizer.choice.kind=x", "choice.kind is 'x'; .* one of attention, dis"),
    ("quantizer.kind=vq", "quantizer.kind is 'vq'; .* one of adaptive, vector"),
    ("quantizer.placement=data", "placement is 'data'; .* a group of fields"),
  )
  def test_there_is_no_such_kind(self, text, message):
    with self.assertRaisesRegex(UserError, message):
      changed(text)

  def test_values_of_python(self):
    config = datasets.default_config("mnist")
    changes.apply(
      config,
      {"quantizer.placement.revive_below": 1, "quantizer.update": "gradient"},
    )
    self.assertEqual(repr(config.quantizer.placement.revive_below), "1.0")
    self.assertEqual(config.quantizer["update"].kind, "gradient")
    self.assertIsInstance(config.quantizer, ml_collections.ConfigDict)
    with self.assertRaisesRegex(UserError, "num_steps is '5'; .* an integer"):
      changes.apply(config, {"num_steps": "5"})
