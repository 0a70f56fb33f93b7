import json
import pathlib

from absl.testing import parameterized
import ml_collections
import numpy as np

from experiments import data
from experiments import files
from experiments.configs import datasets
from experiments.configs import fields
from experiments.configs import whole
from experiments.errors import UserError
from experiments.model import check
from experiments.runs import config_changes
from experiments.runs import workdir

_ROOT = pathlib.Path(__file__).parents[3]
_RESULTS = sorted((_ROOT / "results").rglob(workdir.CONFIG))
# CelebA's config has every field that there is.
_FIELDS = fields.flatten(datasets.default_config("celeba").to_dict())
_WRONG = {
  bool: ("no", 1, 0, 1.0, None, []),
  int: ("x", "5", 1.5, 2.0, True, None, [1]),
  float: ("x", "0.5", True, float("nan"), 1e39, 10**400, None, [1.0]),
  str: (3, 0.5, False, None, ["x"]),
  tuple: ("x", 3, 1.5, True, None),
}
_WRONG_TEXTS = {
  bool: ("no", "2", "", "1.0"),
  int: ("x", "1.5", "2.0", "1e3", "True", "", "9" * 5000),
  float: ("x", "True", "", "nan", "1e39", "0.1.2"),
  str: ("a\0b",),
  tuple: ("x", "3", "(1,", "", "(" * 500),
}
_KINDS = {
  bool: "True or False",
  int: "an integer",
  float: "a finite number",
  str: "a string",
  tuple: "a tuple",
}


def config_of(field, value):
  """A config as a file could make it, without ConfigDict's own checks."""
  values = datasets.default_config("celeba").to_dict()
  group, _, name = field.rpartition(".")
  (values[group] if group else values)[name] = value
  return ml_collections.ConfigDict(values)


class TypesTest(parameterized.TestCase):
  def refused(self, message):
    return self.assertRaisesRegex(UserError, message)

  @parameterized.parameters(*_FIELDS)
  def test_every_field_of_a_config_file_has_a_type(self, field):
    kind = type(_FIELDS[field])
    wanted = "one of" if field == "name" else _KINDS[kind]
    for value in _WRONG[kind]:
      with self.refused(rf"^config.{field} is .*; it must be {wanted}"):
        check.check(config_of(field, value))

  @parameterized.parameters(*_FIELDS)
  def test_every_field_of_a_config_json_has_a_type(self, field):
    kind = type(_FIELDS[field])
    wanted = "one of" if field == "name" else _KINDS[kind]
    root = pathlib.Path(self.create_tempdir())
    for value in _WRONG[kind]:
      values = config_of(field, value).to_dict()
      files.write_json(root / workdir.CONFIG, values)
      with self.refused(
        rf"^in {root}/config.json, config.{field} is .*; it must be {wanted}"
      ):
        workdir.read_config(root)

  @parameterized.parameters(*_FIELDS)
  def test_every_field_of_a_command_line_has_a_type(self, field):
    kind = type(_FIELDS[field])
    config = datasets.default_config("celeba").lock()
    for text in _WRONG_TEXTS[kind]:
      with self.refused(rf"^config.{field} is .*; it must be {_KINDS[kind]}"):
        fields.change(config, field, text)
    self.assertEqual(fields.flatten(config.to_dict()), _FIELDS)

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
    ("data.attributes", "('Bald', 'Bangs')", ("Bald", "Bangs")),
  )
  def test_a_text_becomes_a_value_of_the_fields_type(self, field, text, value):
    config = datasets.default_config("celeba").lock()
    fields.change(config, field, text)
    found = fields.flatten(config.to_dict())[field]
    self.assertEqual(repr(found), repr(value))

  @parameterized.parameters(
    ("learning_rate", 1, 1.0),
    ("learning_rate", np.float32(0.5), 0.5),
    ("learning_rate", np.float64(0.5), 0.5),
    ("learning_rate", np.int64(1), 1.0),
    ("num_steps", np.int32(5), 5),
    ("num_steps", np.uint8(5), 5),
    ("check_replicas", np.bool_(True), True),
    ("data.data_dir", np.str_("x"), "x"),
    ("quantizer.structures", [[512, 128]], ((512, 128),)),
    ("quantizer.structures", ((np.int64(512), np.int64(128)),), ((512, 128),)),
    ("data.attributes", ["Bald"], ("Bald",)),
  )
  def test_what_is_as_good_becomes_one_of_the_type(self, field, given, value):
    config = config_of(field, given).lock()
    whole.check_types(config)
    self.assertTrue(config.is_locked)
    self.assertTrue(config.data.is_locked)
    found = fields.flatten(config.to_dict())[field]
    self.assertEqual(repr(found), repr(value))
    json.dumps(config.to_dict())

  @parameterized.parameters(
    ("num_steps", np.float64(5)),
    ("num_steps", np.bool_(True)),
    ("num_steps", np.array([5])),
    ("learning_rate", np.float32("nan")),
    ("learning_rate", np.bool_(True)),
    ("check_replicas", np.int64(1)),
    ("quantizer.structures", np.array([[512, 128]])),
    ("data.attributes", ("Bald", 3)),
    ("data.attributes", ("Bald", ("Bangs",))),
    ("data.memory_budget_gib", float("nan")),
  )
  def test_more_that_is_of_another_type(self, field, value):
    with self.refused(rf"^config.{field}.* is .*; it must be [aT]") as context:
      whole.check_types(config_of(field, value))
    self.assertNotIn("\n", str(context.exception))
    self.assertLess(len(str(context.exception)), 250)

  def test_an_integer_that_no_machine_has(self):
    for field, value in (
      ("num_steps", 2**63),
      ("num_steps", 10**5000),  # which Python does not print
      ("learning_rate", 10**5000),
      ("quantizer.structures", ((10**5000, 1),)),
    ):
      with self.refused(rf"^config.{field}.* is .*; it must be a"):
        whole.check_types(config_of(field, value))

  def test_infinite_memory_is_meaningful(self):
    check.check(config_of("data.memory_budget_gib", float("inf")))

  def test_a_config_that_is_right_is_left_as_it_is(self):
    for name in datasets.GET_CONFIG:
      config = datasets.default_config(name)
      frozen = ml_collections.FrozenConfigDict(config)
      whole.check_types(frozen)
      self.assertEqual(frozen.to_dict(), config.to_dict())


class NamesTest(parameterized.TestCase):
  @parameterized.parameters(
    ("num_stpes", "did you mean num_steps?"),
    ("batchsize", "did you mean batch_size?"),
    ("num_heads", "did you mean quantizer.num_heads?"),
    ("heads", "did you mean quantizer.num_heads?"),
    ("quantizer.feature", "did you mean model.features?"),
    ("quantiser.decay", "did you mean quantizer.decay?"),
    ("data.image_sise", "did you mean data.image_size?"),
    ("seed.a", "base.py and mnist.py list all fields"),
    ("data.resize_to", "base.py and mnist.py list all fields"),
    ("lr", "base.py and mnist.py list all fields"),
    ("", "base.py and mnist.py list all fields"),
    ("a\nb", "base.py and mnist.py list all fields"),
  )
  def test_a_misspelt_field_is_named_with_what_is_meant(self, field, remedy):
    config = datasets.default_config("mnist").lock()
    with self.assertRaises(UserError) as context:
      fields.change(config, field, "5")
    message = str(context.exception)
    self.assertIn(f"the config of mnist has no field {field!r}; ", message)
    self.assertIn(remedy, message)

  @parameterized.parameters("model", "quantizer", "data")
  def test_a_group_is_no_field(self, group):
    message = f"config.{group} is .*3.*; it must be a group of fields"
    with self.assertRaisesRegex(UserError, message):
      fields.change(datasets.default_config("mnist").lock(), group, "3")
    values = datasets.default_config("mnist").to_dict() | {group: 3}
    with self.assertRaisesRegex(UserError, message):
      whole.check_types(ml_collections.ConfigDict(values))

  def test_every_field_must_be_there(self):
    for field in _FIELDS:
      config = datasets.default_config("celeba")
      group, _, name = field.rpartition(".")
      del (config[group] if group else config)[name]
      with self.assertRaisesRegex(UserError, f"config.{field} is missing"):
        check.check(config)

  def test_a_field_of_another_data_set_is_unknown(self):
    config = datasets.default_config("celeba")
    config.name = "photo_patches"
    with self.assertRaisesRegex(
      UserError, "photo_patches has no field 'data.attributes'"
    ):
      check.check(config)

  def test_every_data_set_has_a_config_and_a_loader(self):
    self.assertEqual(list(datasets.GET_CONFIG), list(data.LOADERS))

  @parameterized.parameters(
    ({}, "config.name is missing"),
    ({"name": "imagenet"}, "config.name is 'imagenet'; .* one of mnist, "),
    ({"name": 3}, "config.name is 3; .* one of mnist, "),
    ({"name": ["mnist"]}, r"config.name is .*'mnist'.*; .* one of mnist, "),
    ({"name": {"a": 1}}, "config.name is missing"),
    ({"name": None}, "config.name is None; .* one of mnist, "),
  )
  def test_no_such_data_set(self, values, message):
    with self.assertRaisesRegex(UserError, message):
      whole.complete(values)


class OldRunsTest(parameterized.TestCase):
  def test_there_are_old_runs(self):
    self.assertLen(_RESULTS, 68)

  @parameterized.parameters(*(str(p.relative_to(_ROOT)) for p in _RESULTS))
  def test_an_old_run_is_read_as_it_was_written(self, name):
    path = _ROOT / name
    config = workdir.read_config(path.parent)
    check.check(config)
    written = fields.flatten(json.loads(path.read_text()))
    read = config_changes.fields_of(config)
    self.assertEqual({k: read[k] for k in written}, written)
    default = config_changes.fields_of(datasets.default_config(config.name))
    for field in read.keys() - written.keys():
      self.assertEqual(read[field], default[field])

  def test_fields_that_were_not_there_yet_have_their_defaults(self):
    values = datasets.default_config("celeba").to_dict()
    del values["on_nonfinite"], values["data"]["resize_to"], values["model"]
    config = whole.complete(values)
    self.assertEqual(fields.flatten(config.to_dict()), _FIELDS)
