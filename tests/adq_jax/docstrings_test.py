"""Examples in docstrings of the public names print what they say."""

import doctest
import inspect

from absl.testing import parameterized

import adq_jax
from adq_jax import nnx

# Their docstrings have no example yet; docs/quantizers.md and
# docs/codebooks.md show how these are used.
_WITHOUT = ("adq_jax.codebook.", "adq_jax.quantizers.")


def examples(package, name):
  """Returns the doctests of a public name and of its members."""
  subject = getattr(package, name)
  module = inspect.getmodule(subject)
  finder = doctest.DocTestFinder()
  return [
    test
    for test in finder.find(subject, name, module=module, globs={})
    if test.examples
  ]


class DocstringsTest(parameterized.TestCase):
  @parameterized.parameters(
    *((adq_jax, name) for name in adq_jax.__all__),
    *((nnx, name) for name in nnx.__all__),
  )
  def test_examples_print_what_they_say(self, package, name):
    tests = examples(package, name)
    if not inspect.getmodule(getattr(package, name)).__name__.startswith(
      _WITHOUT
    ):
      self.assertNotEmpty(tests, f"{name} has no example")
    runner = doctest.DocTestRunner(verbose=False)
    for test in tests:
      report = []
      result = runner.run(test, out=report.append)
      self.assertEqual(result.failed, 0, "".join(report))
