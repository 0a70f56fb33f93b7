import json
import pathlib

from absl.testing import parameterized

from experiments import settings
from experiments import workdir
from experiments.errors import UserError
from tests.experiments import tiny


class ClaimTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.create_tempdir()) / "run"

  def claim(self, **fields):
    with workdir.claim(self.root, tiny.config(**fields)):
      pass

  def test_the_config_comes_back(self):
    self.claim()
    self.assertEqual(
      workdir.read_config(self.root).quantizer.capacity,
      tiny.config().quantizer.capacity,
    )

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
    del fields["on_nonfinite"], fields["quantizer"]["entropy_weight"]
    workdir.write_json(self.root / "config.json", fields)
    read = workdir.read_config(self.root)
    self.assertEqual(workdir.fields_of(read), workdir.fields_of(tiny.config()))
    settings.check(read)
    self.claim()
    with self.assertRaisesRegex(UserError, r"entropy_weight \(0.0 there, 0.5"):
      self.claim(**{"quantizer.entropy_weight": 0.5})

  def test_a_directory_with_something_else_is_left_alone(self):
    self.root.mkdir()
    (self.root / "thesis.tex").write_text("years of work")
    with self.assertRaisesRegex(UserError, "'thesis.tex' but no run"):
      self.claim()
    self.assertEqual(
      [path.name for path in self.root.iterdir()], ["thesis.tex"]
    )

  def test_a_kill_before_the_config_was_written(self):
    self.root.mkdir()
    (self.root / "config.json.tmp").write_text("{")
    self.claim()
    self.assertEqual(workdir.read_config(self.root).seed, 0)

  def test_one_process_at_a_time(self):
    with workdir.claim(self.root, tiny.config()):
      with self.assertRaisesRegex(UserError, "in use by another process"):
        self.claim()
    self.claim()

  def test_a_file_in_the_way(self):
    self.root.write_text("")
    with self.assertRaisesRegex(UserError, "cannot be used"):
      self.claim()

  def test_no_run_and_a_damaged_one(self):
    with self.assertRaisesRegex(UserError, "holds no run"):
      workdir.read_config(self.root)
    self.claim()
    (self.root / "config.json").write_text("{")
    with self.assertRaisesRegex(UserError, "config.json is damaged"):
      workdir.read_config(self.root)
