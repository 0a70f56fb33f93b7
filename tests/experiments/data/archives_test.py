import dataclasses

from absl.testing import parameterized

from experiments import data
from experiments.data import archives
from experiments.errors import UserError
from tests.support import sources


class BadArchivesTest(sources.TestCase):
  @parameterized.parameters(*sources.BUILDERS)
  def test_missing(self, name):
    sources.write(name, self.root)
    for archive in sources.BUILDERS[name].ARCHIVES:
      path = self.archives / archive.name
      content = path.read_bytes()
      path.unlink()
      message = self.refused(f"archive {path} is missing; fetch it from", name)
      self.assertIn("http", message)
      self.assertIn("--config.data.manual_dir=DIR", message)
      path.write_bytes(content)
    sources.load(name, self.root)

  @parameterized.parameters(*sources.BUILDERS)
  def test_cut_short(self, name):
    sources.write(name, self.root)
    archive = sources.BUILDERS[name].ARCHIVES[0].name
    path = self.archives / archive
    content = path.read_bytes()
    for length in (0, 100, len(content) // 2):
      path.write_bytes(content[:length])
      self.refused(f"archive {path}.*fetch it", name)
    path.write_bytes(content)
    sources.load(name, self.root)

  @parameterized.parameters(
    "fashion_mnist", "mnist", "cifar10", "tiny_imagenet"
  )
  def test_another_content(self, name):
    sources.write(name, self.root)
    with self.assertRaisesRegex(
      UserError, r"archive .*(another content.*SHA-256|cut short, \d+ of \d+)"
    ):
      data.load(sources.config(name, self.root))
    # Another gzip of the same file would do, another file of the same size not.
    builder = sources.BUILDERS["mnist"]
    archive = dataclasses.replace(
      builder.ARCHIVES[0], name="x.zip", sha256="0" * 64, size=3
    )
    (self.archives / "x.zip").write_bytes(b"abc")
    with self.assertRaisesRegex(UserError, "another content than the publ"):
      archives.find([archive], str(self.archives), self.root)

  def test_an_order_that_only_a_seed_and_names_determine(self):
    names = [f"{i}.jpg" for i in range(20)]
    order = archives.in_seeded_order(names, "a")
    self.assertCountEqual(order, names)
    self.assertEqual(archives.in_seeded_order(names[::-1], "a"), order)
    self.assertNotEqual(archives.in_seeded_order(names, "b"), order)
