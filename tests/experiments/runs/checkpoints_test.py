import contextlib
import io
import os
import pathlib
import resource
import shutil
import subprocess
import sys
import tempfile
from unittest import mock

from absl.testing import parameterized
import chex
import numpy as np
import pytest

from experiments import files
from experiments.errors import UserError
from experiments.model import build
from experiments.runs import checkpoint_file
from experiments.runs import checkpoints
from experiments.runs import workdir as workdirs
from experiments.training import loop
from tests.support import tiny

_FIELDS = {"checkpoint_every": 2, "eval_every": 2, "num_steps": 6}


def run(root, **fields):
  output = io.StringIO()
  with contextlib.redirect_stdout(output):
    loop.train_and_evaluate(
      tiny.config("fixed_32x4", **{**_FIELDS, **fields}), root
    )
  return output.getvalue()


def template():
  config = tiny.config("fixed_32x4")
  return checkpoints.make_template(config, build.create_model(config))


def load(root):
  output = io.StringIO()
  with contextlib.redirect_stdout(output):
    _, state = checkpoints.load_state(tiny.config("fixed_32x4"), root)
  return state, output.getvalue()


def verify(root):
  output = io.StringIO()
  with contextlib.redirect_stdout(output):
    try:
      checkpoints.verify_run(tiny.config("fixed_32x4"), root)
    except UserError as error:
      return output.getvalue(), str(error)
  return output.getvalue(), None


def files_of(root, step):
  directory = root / workdirs.CHECKPOINTS / str(step)
  return sorted(path for path in directory.rglob("*") if path.is_file())


def arrays(root, step):
  """The file with most of the bytes."""
  return max(files_of(root, step), key=lambda path: path.stat().st_size)


def flip(path, position, bit=0):
  content = bytearray(path.read_bytes())
  content[position] ^= 1 << bit
  path.write_bytes(content)


class CheckpointsTest(parameterized.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    directory = tempfile.TemporaryDirectory()
    cls.addClassCleanup(directory.cleanup)
    cls.finished = pathlib.Path(directory.name) / "run"
    run(cls.finished)

  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.create_tempdir()) / "run"
    shutil.copytree(self.finished, self.root)

  def test_the_two_latest_and_the_best_are_kept(self):
    mse = {2: 0.3, 4: 0.1, 6: 0.5, 8: 0.4, 10: 0.2}
    state = checkpoint_file.read(self.root, 6, template()).state
    shutil.rmtree(self.root / workdirs.CHECKPOINTS)
    saved = checkpoints.Checkpoints(self.root, template())
    self.assertIsNone(saved.latest)
    for step, value in mse.items():
      saved.save(state.replace(step=np.int32(step)), 1.5 * step, value)
    saved.save(state.replace(step=np.int32(11)), 20.0, None)
    saved.close()
    self.assertEqual(workdirs.steps_of(self.root), [4, 10, 11])
    # What was the best is known after a restart too.
    saved = checkpoints.Checkpoints(self.root, template())
    self.assertEqual(saved.latest.seconds, 20.0)
    self.assertEqual(int(saved.latest.state.step), 11)
    saved.save(state.replace(step=np.int32(12)), 21.0, 0.15)
    saved.close()
    self.assertEqual(workdirs.steps_of(self.root), [4, 11, 12])

  def test_an_intact_run(self):
    told, error = verify(self.root)
    self.assertIsNone(error)
    self.assertRegex(told, r"^(checkpoint \d: intact, \d+ arrays\n){2,3}$")

  def test_a_damaged_checkpoint_is_named_and_stepped_around(self):
    path = arrays(self.root, 6)
    flip(path, path.stat().st_size // 2)
    told, error = verify(self.root)
    self.assertRegex(told, "checkpoint 4: intact.*\ncheckpoint 6: damaged, ")
    self.assertRegex(error, "1 of . checkpoints")
    state, told = load(self.root)
    self.assertEqual(int(state.step), 4)
    self.assertIn("Checkpoint 6 of ", told)
    self.assertTrue(path.exists())
    with self.assertRaisesRegex(UserError, "no checkpoint .* is intact .*6: "):
      checkpoints.load_model(self.root, step=6)
    # Training goes on from the one before, and ends as it did.
    (self.root / "summary.json").unlink()
    told = run(self.root)
    self.assertRegex(told, "Checkpoint 6 .* damaged.*damaged/6\nResuming .* 4")
    self.assertIsNone(verify(self.root)[1])
    chex.assert_trees_all_equal(load(self.root)[0], load(self.finished)[0])
    kept = self.root / "damaged" / "6" / path.relative_to(path.parents[2])
    self.assertTrue(kept.exists() or list((self.root / "damaged").rglob("d/*")))

  def test_nothing_intact(self):
    for step in workdirs.steps_of(self.root):
      arrays(self.root, step).write_bytes(b"")
    for _ in range(2):  # nothing is moved, or begun anew
      with self.assertRaisesRegex(UserError, "no checkpoint of .* is intact"):
        run(self.root, num_steps=8)
    with self.assertRaisesRegex(UserError, "no checkpoint of .* is intact"):
      load(self.root)

  def test_a_damaged_description_is_no_other_description(self):
    path = self.root / workdirs.CHECKPOINTS / "6" / "meta" / "metadata"
    content = path.read_text()
    for text, other in (('"mse":', '"mze":'), ('"step": 6', '"step": 4')):
      path.write_text(content.replace(text, other))
      with self.assertRaises(checkpoint_file.DamagedError):
        checkpoint_file.read(self.root, 6, template())

  def test_a_checkpoint_under_the_number_of_another(self):
    directory = self.root / workdirs.CHECKPOINTS
    os.rename(directory / "6", directory / "7")
    self.assertRegex(verify(self.root)[0], "checkpoint 7: damaged, its desc")

  def copy_in_one_of_another_run(self, step):
    other = self.root.with_name("other")
    run(other, num_steps=step, seed=1)
    source = other / workdirs.CHECKPOINTS / str(step)
    place = self.root / workdirs.CHECKPOINTS / str(step)
    shutil.copytree(source, place)
    return place

  def test_a_checkpoint_of_another_run_is_named_and_left_alone(self):
    place = self.copy_in_one_of_another_run(8)
    content = {path: path.read_bytes() for path in files_of(self.root, 8)}
    with self.subTest("training refuses it"):
      with self.assertRaisesRegex(
        UserError, f"{place}: it is of another run, [0-9a-f]{{32}}.*move them"
      ):
        run(self.root, num_steps=10)
    with self.subTest("others step around it"):
      state, told = load(self.root)
      self.assertEqual(int(state.step), 6)
      self.assertRegex(told, "Checkpoint 8 of .* left out: it is of another")
      with self.assertRaisesRegex(UserError, "8: it is of another run"):
        checkpoints.load_model(self.root, step=8)
      told, error = verify(self.root)
      self.assertRegex(told, "checkpoint 6: intact.*\ncheckpoint 8: left out")
      self.assertIn(str(place), error)
    with self.subTest("even where it is damaged"):
      path = arrays(self.root, 8)
      flip(path, path.stat().st_size // 2)
      content[path] = path.read_bytes()
      with self.assertRaisesRegex(UserError, "of another run"):
        run(self.root, num_steps=10)
    self.assertEqual(
      {path: path.read_bytes() for path in files_of(self.root, 8)}, content
    )
    self.assertFalse((self.root / "damaged").exists())
    shutil.rmtree(place)
    self.assertIn("at step 6", run(self.root, num_steps=8))

  def test_a_run_that_has_only_checkpoints_of_another(self):
    self.copy_in_one_of_another_run(8)
    for step in (4, 6, 2):
      shutil.rmtree(
        self.root / workdirs.CHECKPOINTS / str(step), ignore_errors=True
      )
    with self.assertRaisesRegex(UserError, "no checkpoint .*another run"):
      load(self.root)

  def test_checkpoints_that_vanish_while_they_are_read_are_no_damage(self):
    read = checkpoint_file.read

    def read_late(root, step, like):
      if step == 4:
        shutil.rmtree(root / workdirs.CHECKPOINTS / "4")
      return read(root, step, like)

    with mock.patch.object(checkpoint_file, "read", read_late):
      told, error = verify(self.root)
    self.assertIsNone(error)
    self.assertRegex(told, r"^(checkpoint [26]: intact, \d+ arrays\n)+$")

  @parameterized.parameters(verify, load)
  def test_all_of_them_are_replaced_while_they_are_read(self, look):
    place = self.root / workdirs.CHECKPOINTS
    shutil.rmtree(place / "4")
    lists = iter([[4], [4], [6], [6]])
    with mock.patch.object(workdirs, "steps_of", lambda _: next(lists)):
      told = look(self.root)
    self.assertNotIn("damaged", str(told))

  @pytest.mark.slow
  def test_no_damage_is_ever_restored(self):
    rng = np.random.default_rng(0)
    expected = checkpoint_file.read(self.root, 6, template())
    outcomes = []
    for trial in range(240):
      paths = [path for path in files_of(self.root, 6) if path.stat().st_size]
      path = paths[rng.integers(len(paths))]
      content = path.read_bytes()
      place = int(rng.integers(len(content)))
      if trial % 4 == 3:
        path.write_bytes(content[:place])
      elif trial % 40 == 4:
        path.unlink()
      else:
        flip(path, place, rng.integers(8))
      try:
        found = checkpoint_file.read(self.root, 6, template())
        chex.assert_trees_all_equal(found.state, expected.state)
        self.assertEqual(
          (found.seconds, found.mse), (expected.seconds, expected.mse)
        )
        outcomes.append("intact")
      except checkpoint_file.DamagedError as error:
        self.assertNotIn("\n", str(error))
        outcomes.append("damaged")
      path.write_bytes(content)
    self.assertIn("damaged", outcomes)

  def test_a_disk_that_is_full(self):
    (self.root / "summary.json").unlink()
    before = workdirs.steps_of(self.root)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Enough for the log, not for a checkpoint's arrays.
    resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, limits[1]))
    try:
      with self.assertRaisesRegex(UserError, "cannot (save|go on).*put that"):
        run(self.root, num_steps=10)
    finally:
      resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    self.assertEqual(workdirs.steps_of(self.root), before)
    self.assertIsNone(verify(self.root)[1])
    self.assertIn("at step 6", run(self.root, num_steps=8))

  def test_a_full_disk_is_told_in_one_line(self):
    (self.root / "summary.json").unlink()
    program = f"""
import pathlib, resource
from experiments.processes import command
from tests.support import tiny
def main(argv):
  from experiments.training import loop
  resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, 12_000))
  config = tiny.config("fixed_32x4", **{_FIELDS | {"num_steps": 10}})
  loop.train_and_evaluate(config, {str(self.root)!r})
command.run(main)
"""
    result = subprocess.run(
      [sys.executable, "-c", program],
      cwd=pathlib.Path(__file__).parents[3],
      env={**os.environ, "NPROC": "16"},
      capture_output=True,
      text=True,
      timeout=300,
    )
    self.assertEqual(result.returncode, 2, result.stderr)
    self.assertRegex(result.stderr, "^error: cannot save a checkpoint.*\n$")

  def test_a_file_where_the_checkpoints_should_be(self):
    shutil.rmtree(self.root / workdirs.CHECKPOINTS)
    (self.root / workdirs.CHECKPOINTS).write_text("")
    (self.root / "summary.json").unlink()
    for look in (run, load):
      with self.assertRaisesRegex(UserError, "checkpoint"):
        look(self.root)
    self.assertRegex(verify(self.root)[1], "no checkpoint")

  def test_a_directory_that_cannot_be_written(self):
    (self.root / "summary.json").unlink()
    error = OSError(30, "Read-only file system")
    with mock.patch.object(files, "write_json", side_effect=error):
      with self.assertRaisesRegex(UserError, "Read-only file system"):
        run(self.root)
    self.assertIsNone(verify(self.root)[1])
