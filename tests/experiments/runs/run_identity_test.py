import json
import pathlib

from absl.testing import parameterized

from experiments import files
from experiments.runs import claims
from experiments.runs import run_identity
from experiments.runs import workdir
from tests.support import tiny


class IdentityTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.create_tempdir())

  def claim(self, name="run", **fields):
    with claims.claim(self.root / name, tiny.config(**fields)):
      return run_identity.read(self.root / name)

  def edit(self, change, name="run"):
    path = self.root / name / "config.json"
    fields = json.loads(path.read_text())
    change(fields)
    files.write_json(path, fields)

  def test_each_run_has_its_own_and_keeps_it(self):
    first = self.claim()
    self.assertRegex(first, "^[0-9a-f]{32}$")
    self.assertNotEqual(self.claim("other"), first)
    self.assertEqual(self.claim(num_steps=100), first)

  def test_it_is_no_field_of_the_config(self):
    self.claim()
    config = workdir.read_config(self.root / "run")
    self.assertEqual(config.to_dict(), tiny.config().to_dict())

  def test_a_run_from_before_is_given_one(self):
    self.claim()
    self.edit(lambda fields: fields.pop("run_id"))
    line = {"step": 1, "split": "train", "values": {}}
    (self.root / "run" / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    self.assertEqual(run_identity.read(self.root / "run"), "")
    self.assertRegex(self.claim(), "^[0-9a-f]{32}$")

  def test_a_config_from_a_copy_of_before(self):
    run_id = self.claim()
    self.edit(lambda fields: fields.update(run_id=5))
    line = {"step": 1, "split": "train", "values": {}, "run_id": run_id}
    text = json.dumps(line) + "\n"
    (self.root / "run" / "metrics.jsonl").write_text(text + "7\n{\n" + text)
    self.assertEqual(run_identity.read(self.root / "run"), run_id)
    self.assertEqual(self.claim(), run_id)

  def test_what_has_none_belongs(self):
    self.assertTrue(run_identity.is_own(None, "a"))
    self.assertTrue(run_identity.is_own(None, ""))
    self.assertTrue(run_identity.is_own("a", "a"))
    self.assertFalse(run_identity.is_own("b", "a"))
    self.assertFalse(run_identity.is_own("b", ""))
