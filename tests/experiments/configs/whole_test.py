import json
import pathlib

from absl.testing import parameterized
import ml_collections
import numpy as np

from experiments import data
from experiments import files
from experiments.configs import datasets
from experiments.configs import fields
from experiments.configs import upgrade
from experiments.configs import whole
from experiments.errors import UserError
from experiments.model import check
from experiments.runs import config_changes
from experiments.runs import workdir
from tests.support import field_types

_ROOT = pathlib.Path(__file__).parents[3]
_RESULTS = sorted((_ROOT / "results").rglob(workdir.CONFIG))
# CelebA's configs have every field that there is, and some kinds of quantizers
# fields of their own.
_VARIANTS = ("adaptive", "improved", "fixed_512x128")


def fields_of(variant):
  return fields.flatten(datasets.default_config("celeba", variant).to_dict())


_FIELDS = fields_of("adaptive")
_EVERY_FIELD = {
  field: (variant, value)
  for variant in reversed(_VARIANTS)
  for field, value in fields_of(variant).items()
}
_WRONG = {
  bool: ("no", 1, 0, 1.0, None, []),
  int: ("x", "5", 1.5, 2.0, True, None, [1]),
  float: ("x", "0.5", True, float("nan"), 1e39, 10**400, None, [1.0]),
  str: (3, 0.5, False, None, ["x"]),
  tuple: ("x", 3, 1.5, True, None),
}


def config_of(field, value):
  """A config as a file could make it, without ConfigDict's own checks."""
  variant, _ = _EVERY_FIELD[field]
  values = group = datasets.default_config("celeba", variant).to_dict()
  *groups, name = field.split(".")
  for each in groups:
    group = group[each]
  group[name] = value
  return ml_collections.ConfigDict(values)


def wanted_of(field, kind):
  return "one of" if field == "name" else field_types.wanted(field, kind)


class TypesTest(parameterized.TestCase):
  def refused(self, message):
    return self.assertRaisesRegex(UserError, message)

  @parameterized.parameters(*_EVERY_FIELD)
  def test_every_field_of_a_config_file_has_a_type(self, field):
    kind = type(_EVERY_FIELD[field][1])
    wanted = wanted_of(field, kind)
    for value in _WRONG[kind]:
      with self.refused(rf"^config.{field} is .*; it must be {wanted}"):
        check.check(config_of(field, value))

  @parameterized.parameters(*_EVERY_FIELD)
  def test_every_field_of_a_config_json_has_a_type(self, field):
    kind = type(_EVERY_FIELD[field][1])
    wanted = wanted_of(field, kind)
    root = pathlib.Path(self.create_tempdir())
    for value in _WRONG[kind]:
      values = config_of(field, value).to_dict()
      files.write_json(root / workdir.CONFIG, values)
      with self.refused(
        rf"^in {root}/config.json, config.{field} is .*; it must be {wanted}"
      ):
        workdir.read_config(root)

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
  def test_every_field_must_be_there(self):
    for field in _FIELDS:
      config = group = datasets.default_config("celeba")
      *groups, name = field.split(".")
      for each in groups:
        group = group[each]
      del group[name]
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
    self.assertGreaterEqual(len(_RESULTS), 68)

  @parameterized.parameters(*(str(p.relative_to(_ROOT)) for p in _RESULTS))
  def test_an_old_run_is_read_as_it_was_written(self, name):
    path = _ROOT / name
    config = workdir.read_config(path.parent)
    check.check(config)
    written = json.loads(path.read_text())
    read = config_changes.fields_of(config)
    default = config_changes.fields_of(
      datasets.default_config(config.name, config.variant)
    )
    checked = 0
    for field, value in fields.flatten(written).items():
      now = upgrade.MOVED.get(field, field)
      if f"{now}.kind" in read:
        now = f"{now}.kind"
      if now in read and now != "quantizer.kind":
        self.assertEqual(read[now], value)
        checked += 1
    self.assertGreater(checked, 25)
    # A run of its variant differs from it in what its command says alone.
    self.assertEqual(read.keys(), default.keys())

  def test_fields_that_were_not_there_yet_have_their_defaults(self):
    values = datasets.default_config("celeba").to_dict()
    del values["on_nonfinite"], values["data"]["resize_to"], values["model"]
    del values["quantizer"]["placement"], values["sampling"]
    del values["quantizer"]["choice"]["kind"], values["quantizer"]["kind"]
    config = whole.complete(values)
    self.assertEqual(fields.flatten(config.to_dict()), _FIELDS)

  def test_a_size_has_no_default(self):
    values = datasets.default_config("celeba", "fixed_16x4").to_dict()
    del values["quantizer"]["codebook_size"]
    with self.assertRaisesRegex(UserError, "quantizer.codebook_size is missi"):
      whole.complete(values)
