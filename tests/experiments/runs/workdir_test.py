import pathlib

from absl.testing import parameterized

from experiments.errors import UserError
from experiments.runs import workdir
from tests.support import claimed
from tests.support import tiny


class ReadConfigTest(claimed.ClaimedCase):
  def test_the_config_comes_back(self):
    self.claim()
    self.assertEqual(
      workdir.read_config(self.root).quantizer.capacity,
      tiny.config().quantizer.capacity,
    )

  def test_no_run_and_a_damaged_one(self):
    with self.assertRaisesRegex(UserError, "holds no run"):
      workdir.read_config(self.root)
    self.claim()
    (self.root / "config.json").write_text("{")
    with self.assertRaisesRegex(UserError, "config.json is damaged"):
      workdir.read_config(self.root)

  def test_a_file_where_the_run_should_be(self):
    self.root.write_text("")
    with self.assertRaisesRegex(UserError, "config.json cannot be read"):
      workdir.read_config(self.root)


class PlacesTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.root = pathlib.Path(self.create_tempdir())

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

  def test_steps_are_names_that_a_checkpoint_has(self):
    self.assertEqual(workdir.steps_of(self.root), [])
    for name in ("10", "9", "trash", "007", "8.tmp"):
      (self.root / "checkpoints" / name).mkdir(parents=True)
    self.assertEqual(workdir.steps_of(self.root), [9, 10])
    self.assertTrue(workdir.is_begun(self.root))
