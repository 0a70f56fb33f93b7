import fcntl
from unittest import mock

from absl.testing import parameterized

from experiments.errors import UserError
from experiments.runs import claims
from experiments.runs import workdir
from tests.support import claimed
from tests.support import tiny


class ClaimTest(claimed.ClaimedCase):
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
    with claims.claim(self.root, tiny.config()):
      with self.assertRaisesRegex(UserError, "in use by another process"):
        self.claim()
    self.claim()

  def test_a_file_in_the_way(self):
    self.root.write_text("")
    with self.assertRaisesRegex(UserError, "cannot be used"):
      self.claim()

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
    with claims.claim(self.root, tiny.config()):
      (self.root / "lock").unlink()
      self.assertTrue(claims.is_claimed(self.root))
      with self.assertRaisesRegex(UserError, "in use by another process"):
        self.claim()
      self.assertTrue(claims.is_claimed(self.root))
    self.assertFalse(claims.is_claimed(self.root))

  def test_a_file_system_that_cannot_lock_directories(self):
    flock = fcntl.flock

    def files_only(file, kind):
      if isinstance(file, int):
        raise OSError(9, "Bad file descriptor")
      flock(file, kind)

    with mock.patch.object(fcntl, "flock", files_only):
      with claims.claim(self.root, tiny.config()):
        self.assertTrue(claims.is_claimed(self.root))
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

  def test_moved_removed_or_replaced_while_it_is_held(self):
    with claims.claim(self.root, tiny.config()) as claim:
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
