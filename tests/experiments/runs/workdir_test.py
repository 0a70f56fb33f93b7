import fcntl
import json
import pathlib
from unittest import mock

from absl.testing import parameterized

from experiments.errors import UserError
from experiments.model import check
from experiments.runs import workdir
from tests.support import tiny


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
    check.check(read)
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

  @parameterized.parameters("checkpoints/2/x", "summary.json")
  def test_what_a_run_has_done_makes_its_config_binding(self, name):
    self.claim()
    (self.root / name).parent.mkdir(parents=True, exist_ok=True)
    (self.root / name).touch()
    before = (self.root / "config.json").read_bytes()
    with self.assertRaisesRegex(UserError, r"seed \(0 there, 1 wanted\)"):
      self.claim(seed=1)
    self.assertEqual((self.root / "config.json").read_bytes(), before)
    (self.root / "config.json").unlink()
    with self.assertRaisesRegex(UserError, "without its config.json; bring"):
      self.claim()

  def test_a_lock_deleted_by_hand(self):
    with workdir.claim(self.root, tiny.config()):
      (self.root / "lock").unlink()
      self.assertTrue(workdir.is_claimed(self.root))
      with self.assertRaisesRegex(UserError, "in use by another process"):
        self.claim()
      self.assertTrue(workdir.is_claimed(self.root))
    self.assertFalse(workdir.is_claimed(self.root))

  def test_a_file_system_that_cannot_lock_directories(self):
    flock = fcntl.flock

    def files_only(file, kind):
      if isinstance(file, int):
        raise OSError(9, "Bad file descriptor")
      flock(file, kind)

    with mock.patch.object(fcntl, "flock", files_only):
      with workdir.claim(self.root, tiny.config()):
        self.assertTrue(workdir.is_claimed(self.root))
        with self.assertRaisesRegex(UserError, "in use by another process"):
          self.claim()

  @parameterized.parameters(
    ("checkpoints", "no directory"),
    ("tensorboard", "no directory"),
    ("damaged", "no directory"),
    ("config.json", "no file"),
    ("metrics.jsonl", "no file"),
    ("lock", "no file"),
  )
  def test_something_of_another_kind_in_the_way(self, name, message):
    self.claim()
    path = self.root / name
    if message == "no file":
      path.unlink(missing_ok=True)
      path.mkdir()
      (path / "mine").touch()
    else:
      path.touch()
    before = sorted(self.root.rglob("*"))
    with self.assertRaisesRegex(UserError, f"{path} is {message}"):
      self.claim()
    self.assertEqual(sorted(self.root.rglob("*")), before)

  def test_a_file_where_the_run_should_be(self):
    self.root.write_text("")
    with self.assertRaisesRegex(UserError, "config.json cannot be read"):
      workdir.read_config(self.root)

  def test_moved_removed_or_replaced_while_it_is_held(self):
    with workdir.claim(self.root, tiny.config()) as claim:
      claim.check()
      self.root.rename(self.root.with_name("moved"))
      with self.assertRaisesRegex(UserError, "moved, removed or replaced"):
        claim.check()
      self.root.mkdir()
      with self.assertRaisesRegex(UserError, "moved, removed or replaced"):
        claim.check()
      self.root.rmdir()
      self.root.with_name("moved").rename(self.root)
      claim.check()
    self.assertFalse((self.root / "metrics.jsonl").exists())

  def test_what_changes_rounding_is_said(self):
    config = tiny.config(steps_per_call=2, log_every=2)
    self.claim()
    self.assertEmpty(workdir.rounding_changes(self.root, config))
    (self.root / "metrics.jsonl").touch()
    self.assertEqual(
      workdir.rounding_changes(self.root, config),
      ["steps_per_call (1 there, 2 wanted)"],
    )
    self.assertEmpty(workdir.rounding_changes(self.root, tiny.config()))


class IdentityTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.create_tempdir())

  def claim(self, name="run", **fields):
    with workdir.claim(self.root / name, tiny.config(**fields)):
      return workdir.identity(self.root / name)

  def edit(self, change, name="run"):
    path = self.root / name / "config.json"
    fields = json.loads(path.read_text())
    change(fields)
    workdir.write_json(path, fields)

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
    self.assertEqual(workdir.identity(self.root / "run"), "")
    self.assertRegex(self.claim(), "^[0-9a-f]{32}$")

  def test_a_config_from_a_copy_of_before(self):
    run_id = self.claim()
    self.edit(lambda fields: fields.update(run_id=5))
    line = {"step": 1, "split": "train", "values": {}, "run_id": run_id}
    text = json.dumps(line) + "\n"
    (self.root / "run" / "metrics.jsonl").write_text(text + "7\n{\n" + text)
    self.assertEqual(workdir.identity(self.root / "run"), run_id)
    self.assertEqual(self.claim(), run_id)

  def test_what_has_none_belongs(self):
    self.assertTrue(workdir.is_own(None, "a"))
    self.assertTrue(workdir.is_own(None, ""))
    self.assertTrue(workdir.is_own("a", "a"))
    self.assertFalse(workdir.is_own("b", "a"))
    self.assertFalse(workdir.is_own("b", ""))

  def test_nothing_is_overwritten_when_moved_aside(self):
    for content in ("one", "two", "three"):
      path = self.root / "summary.json"
      path.write_text(content)
      workdir.move_aside(self.root, path)
      self.assertFalse(path.exists())
    kept = sorted((self.root / "damaged").iterdir())
    self.assertEqual(
      [path.name for path in kept],
      ["summary.json", "summary_2.json", "summary_3.json"],
    )
    self.assertEqual(
      [path.read_text() for path in kept], ["one", "two", "three"]
    )
