"""A name that starts with an underscore is used in its own module alone."""

import pathlib

from absl.testing import parameterized

from tests.support import imports


def _private(path, but_of=None):
  """The private names that a module uses of others, but those of a folder."""
  return [
    f"{one.importer} uses {one.name} of {one.module}"
    for one in imports.imports_of(path)
    if one.name.startswith("_")
    and not one.name.startswith("__")
    and one.module.parent != but_of
  ]


class PrivateNamesTest(parameterized.TestCase):
  @parameterized.parameters("adq_jax", "experiments", "benchmarks")
  def test_no_program_uses_those_of_another_module(self, package):
    found = [use for path in imports.modules(package) for use in _private(path)]
    self.assertEqual(found, [])

  def test_a_test_uses_only_those_of_the_folder_that_it_mirrors(self):
    found = [
      use
      for path in imports.modules("tests")
      for use in _private(path, pathlib.Path(*path.parts[1:-1]))
    ]
    self.assertEqual(found, [])

  def test_all_ways_of_using_one_are_found(self):
    text = (
      "from experiments import files\n"
      "from experiments.study import trials as c\n"
      "from experiments.runs.workdir import _a\n"
      "files._b()\n"
      'mock.patch.object(c, "_c", 1)\n'
    )
    path = pathlib.Path(self.create_tempdir()) / "example.py"
    path.write_text(text)
    self.assertCountEqual(
      [use.partition(" uses ")[2] for use in _private(path)],
      [
        "_a of experiments/runs/workdir.py",
        "_b of experiments/files.py",
        "_c of experiments/study/trials.py",
      ],
    )
