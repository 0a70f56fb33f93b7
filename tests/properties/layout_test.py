"""Files are where docs/architecture.md says, and imports go its way only."""

import graphlib
import pathlib
import re

from absl.testing import parameterized

from tests.support import imports

_PAGE = (imports.ROOT / "docs" / "architecture.md").read_text()
_PACKAGES = ("adq_jax", "experiments")
# Modules without a test file of their own, and why they need none.
_COVERED = {
  "adq_jax/__init__.py": "names of others; tests import by them",
  "adq_jax/nnx/__init__.py": "names of others; tests import by them",
  "experiments/data/__init__.py": "a table; whole_test.py looks at each row",
  **{
    f"experiments/configs/{name}.py": "values; check_test.py checks them all"
    for name in (
      "base",
      "celeba",
      "cifar10",
      "diabetic_retinopathy",
      "fashion_mnist",
      "mnist",
      "photo_patches",
      "tiny_imagenet",
    )
  },
}


def _levels(package):
  """The level of each folder in the picture, and that of single files.

  Folders that share a level in the picture, in braces, have the same number.
  """
  (line,) = re.findall(rf"^{package} +(.*->.*)$", _PAGE, re.M)
  levels = {}
  for number, entry in enumerate(reversed(line.split("->"))):
    for name in entry.strip(" {}").split(","):
      levels[name.strip()] = number
  return levels


def _level(levels, path):
  package, *folders, name = path.parts
  if folders:
    return levels.get(folders[0], levels["other files"])
  is_command = "DEFINE_" in (imports.ROOT / path).read_text()
  kind = "commands" if is_command and "commands" in levels else "other files"
  return levels[kind]


def _goes_back(levels, one):
  """Whether an import goes against the arrows."""
  importer, module = _level(levels, one.importer), _level(levels, one.module)
  if importer != module:
    return importer < module
  # Folders side by side import nothing of each other.
  folders = {path.parts[1:-1] for path in (one.importer, one.module)}
  return len(folders) > 1


def _against_the_order(package, all_imports):
  levels = _levels(package)
  return [
    f"{one.importer} -> {one.module}"
    for one in all_imports
    if one.module.parts[0] == package
    and one.importer.parts[1] != "__init__.py"  # which has names of all
    and _goes_back(levels, one)
  ]


class LayoutTest(parameterized.TestCase):
  @parameterized.parameters(*_PACKAGES)
  def test_every_module_has_its_test_file(self, package):
    for path in imports.modules(package):
      if str(path) not in _COVERED:
        test = pathlib.Path("tests", path.with_name(f"{path.stem}_test.py"))
        with self.subTest(str(path)):
          self.assertTrue((imports.ROOT / test).is_file(), f"{test} is missing")

  def test_a_test_of_the_experiments_is_that_of_a_module(self):
    for path in imports.modules("tests/experiments"):
      tested = path.with_name(f"{path.stem.removesuffix('_test')}.py")
      tested = imports.ROOT.joinpath(*tested.parts[1:])
      self.assertTrue(tested.is_file(), f"{path} is no module's")

  def test_what_is_excused_needs_it(self):
    for name in _COVERED:
      path = pathlib.Path(name)
      self.assertTrue((imports.ROOT / path).is_file(), name)
      test = pathlib.Path("tests", path.with_name(f"{path.stem}_test.py"))
      self.assertFalse((imports.ROOT / test).exists(), name)

  @parameterized.parameters(*_PACKAGES)
  def test_every_folder_is_in_the_picture(self, package):
    folders = {
      path.parts[1] for path in imports.modules(package) if len(path.parts) > 2
    }
    named = set(_levels(package)) - {"commands", "other files"}
    self.assertEqual(folders, named)

  @parameterized.parameters(*_PACKAGES)
  def test_imports_follow_the_arrows(self, package):
    every = [
      one
      for path in imports.modules(package)
      for one in imports.imports_of(path)
    ]
    self.assertGreater(len(every), 50)
    self.assertEqual(_against_the_order(package, every), [])

  def test_an_arrow_back_is_found(self):
    back = [
      ("experiments/data/walk.py", "experiments/study/trials.py"),
      ("experiments/tokens/packing.py", "experiments/training/loop.py"),
      ("experiments/files.py", "experiments/model/state.py"),
      ("experiments/study/page.py", "experiments/main.py"),
    ]
    found = _against_the_order(
      "experiments",
      [imports.Import(*map(pathlib.Path, pair)) for pair in back],
    )
    self.assertLen(found, len(back))

  @parameterized.parameters(*_PACKAGES)
  def test_no_module_is_part_of_a_circle(self, package):
    graph = {
      path: {
        one.module for one in imports.imports_of(path) if one.module != path
      }
      for path in imports.modules(package)
    }
    graphlib.TopologicalSorter(graph).prepare()

  def test_tests_share_what_is_in_support_and_nothing_of_each_other(self):
    for path in imports.modules("tests"):
      for one in imports.imports_of(path):
        self.assertNotEndsWith(one.module.stem, "_test", one)

  def test_the_library_imports_nothing_of_the_experiments(self):
    for path in imports.modules("adq_jax"):
      for one in imports.imports_of(path):
        self.assertEqual(one.module.parts[0], "adq_jax", one)
