import copy
import json

from absl.testing import parameterized

from experiments.configs import datasets
from experiments.configs import quantizers
from experiments.configs import upgrade
from experiments.configs import variant_table
from experiments.configs import variants
from experiments.configs import whole
from experiments.errors import UserError
from tests.support import earlier

# The quantizer of a config.json, before it had blocks.
_FLAT = {
  "kind": "adaptive",
  "capacity": 65_536,
  "structures": [],
  "selection": "attention",
  "rate_weight": 0.0,
  "entropy_weight": 0.0,
  "selection_unit": "position",
  "selection_logits": "log_weights",
  "draw_in_evaluation": False,
  "num_heads": 2,
  "commitment_cost": 0.25,
  "decay": 0.99,
  "update_rule": "ema",
  "output_kernel": 1,
  "codebook_init": "normal",
  "revive_below": 0.0,
  "shard_codebook": False,
}
_FIXED = {
  "kind": "fixed",
  "capacity": 65_536,
  "structures": [[512, 128]],
}
_IMPROVED = {
  "selection": "distortion",
  "codebook_init": "data",
  "revive_below": 0.1,
}


def flat(variant, **quantizer):
  """The config.json of a variant in earlier versions."""
  values = datasets.default_config("mnist", variant).to_dict()
  sampling = values.pop("sampling")
  values["quantizer"] = {**_FLAT, **quantizer}
  return values | {"temperature": sampling["temperature"]}


class UpgradeTest(parameterized.TestCase):
  @parameterized.parameters(
    ("adaptive", {}),
    ("w_4096", {"capacity": 4096}),
    ("without_ema", {"update_rule": "gradient"}),
    ("reference_selection_logits", {"selection_logits": "weights"}),
    ("reference_draw_in_evaluation", {"draw_in_evaluation": True}),
    ("adaptive_entropy_0.1", {"entropy_weight": 0.1}),
    ("improved", _IMPROVED),
    ("improved", {**_IMPROVED, "num_heads": 64}),
    ("improved_rate_0.1", {**_IMPROVED, "rate_weight": 0.1}),
    ("fixed_512x128", _FIXED),
    ("fixed_512x128", {**_FIXED, "capacity": 0, "num_heads": 3}),
    ("improved_fixed_512x128", {**_FIXED, **_IMPROVED}),
  )
  def test_a_flat_quantizer_becomes_the_block_of_its_kind(self, variant, given):
    values = flat(variant, **given)
    before = copy.deepcopy(values)
    config = whole.complete(values)
    self.assertEqual(values, before)
    expected = datasets.default_config("mnist", variant)
    self.assertEqual(config.to_dict(), expected.to_dict())

  def test_every_variant_comes_back(self):
    names = [
      *variants.names("mnist"),
      *(family.example for family in variant_table.FAMILIES.values()),
    ]
    configs = [datasets.default_config("mnist", name) for name in names]
    for config in filter(earlier.could_be, configs):
      then = json.loads(json.dumps(earlier.stored(config)))
      self.assertEqual(whole.complete(then).to_dict(), config.to_dict())

  @parameterized.parameters(*_FLAT)
  def test_a_field_that_was_not_there_yet_had_its_default(self, field):
    values = flat("adaptive")
    del values["quantizer"][field]
    expected = datasets.default_config("mnist", "adaptive")
    self.assertEqual(whole.complete(values).to_dict(), expected.to_dict())

  def test_a_config_of_now_stays_as_it_is(self):
    for variant in ("adaptive", "improved", "fixed_16x4", "without_ema"):
      values = datasets.default_config("mnist", variant).to_dict()
      self.assertEqual(upgrade.upgrade(values), values)

  @parameterized.parameters(*quantizers.kinds())
  def test_a_later_kind_keeps_fields_of_earlier_names(self, kind):
    values = datasets.default_config("mnist").to_dict()
    values["quantizer"] = quantizers.defaults({"kind": kind})
    self.assertEqual(upgrade.upgrade(values), values)

  @parameterized.parameters(
    ({"rate_weight": 0.1}, "no field 'quantizer.choice.rate_weight'"),
    ({"selection": "x"}, "choice.kind is 'x'; it must be one of attention"),
    ({"selection": ["x"]}, r"choice.kind is \['x'\]; it must be one of atten"),
    ({"decay": "x"}, "config.quantizer.update.decay is 'x'; .* finite number"),
    ({"shard_codebook": True}, "no field 'quantizer.shard_codebook'"),
    ({"later": 1}, "no field 'quantizer.later'"),
    ({"kind": "vq"}, "quantizer.kind is 'vq'; it must be one of adaptive, v"),
    ({"kind": {}}, "quantizer.kind is {}; it must be one of adaptive"),
    ({"choice": 3}, "quantizer.choice is 3; it must be a group"),
    ({"update": "ema"}, "quantizer.update is 'ema'; it must be a group"),
    ({**_FIXED, "structures": []}, "no field 'quantizer.structures'"),
    ({**_FIXED, "structures": [3]}, "no field 'quantizer.structures'"),
    ({**_FIXED, "structures": [["x", 3]]}, "codebook_size is 'x'; .* an inte"),
  )
  def test_what_an_earlier_version_refused_is_refused(self, given, message):
    with self.assertRaisesRegex(UserError, message) as context:
      whole.complete(flat("adaptive", **given))
    self.assertNotIn("\n", str(context.exception))

  @parameterized.parameters(3, None, [[1, 2]], "adaptive")
  def test_a_quantizer_that_is_no_group(self, quantizer):
    values = flat("adaptive") | {"quantizer": quantizer}
    with self.assertRaisesRegex(UserError, "config.quantizer is .* a group"):
      whole.complete(values)

  def test_a_group_that_is_none(self):
    values = flat("adaptive") | {"sampling": 3}
    with self.assertRaisesRegex(UserError, "config.sampling is 3; .* a group"):
      whole.complete(values)
