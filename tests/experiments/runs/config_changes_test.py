import json

from experiments import files
from experiments.errors import UserError
from experiments.model import check
from experiments.runs import config_changes
from experiments.runs import workdir
from tests.support import claimed
from tests.support import tiny


class ConfigChangesTest(claimed.ClaimedCase):
  def test_another_config_is_refused_and_the_fields_named(self):
    self.claim()
    (self.root / "metrics.jsonl").touch()
    before = (self.root / "config.json").read_bytes()
    with self.assertRaisesRegex(
      UserError, r"model.features \(8 there, 16 wanted\), seed \(0 there, 1"
    ):
      self.claim(**{"seed": 1, "model.features": 16})
    self.assertEqual((self.root / "config.json").read_bytes(), before)

  def test_a_run_that_never_began_may_be_given_another_config(self):
    self.claim()
    self.claim(**{"seed": 1, "model.features": 16})
    self.assertEqual(workdir.read_config(self.root).seed, 1)

  def test_what_may_change(self):
    self.claim()
    (self.root / "metrics.jsonl").touch()
    self.claim(num_steps=100, eval_every=3, log_every=5)
    self.assertEqual(workdir.read_config(self.root).num_steps, 100)

  def test_a_run_from_before_there_was_a_field_has_its_default(self):
    self.claim()
    (self.root / "metrics.jsonl").touch()
    fields = json.loads((self.root / "config.json").read_text())
    del fields["on_nonfinite"], fields["quantizer"]["choice"]["entropy_weight"]
    files.write_json(self.root / "config.json", fields)
    read = workdir.read_config(self.root)
    self.assertEqual(
      config_changes.fields_of(read), config_changes.fields_of(tiny.config())
    )
    check.check(read)
    self.claim()
    with self.assertRaisesRegex(UserError, r"entropy_weight \(0.0 there, 0.5"):
      self.claim(**{"quantizer.choice.entropy_weight": 0.5})

  def test_what_changes_rounding_is_said(self):
    config = tiny.config(steps_per_call=2, log_every=2)
    self.claim()
    self.assertEmpty(config_changes.rounding_changes(self.root, config))
    (self.root / "metrics.jsonl").touch()
    self.assertEqual(
      config_changes.rounding_changes(self.root, config),
      ["steps_per_call (1 there, 2 wanted)"],
    )
    self.assertEmpty(config_changes.rounding_changes(self.root, tiny.config()))
