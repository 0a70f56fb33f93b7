"""What the README shows is what is true."""

from absl.testing import parameterized
import jax.numpy as jnp
import pytest

from tests.support import pages

_README = pages.PAGES["README.md"]


def _example(with_text: str) -> str:
  """The only Python example that has a text."""
  (example,) = (
    code for code in pages.examples("README.md") if with_text in code
  )
  return example


class ReadmeTest(parameterized.TestCase):
  @pytest.mark.slow
  def test_the_quantizer_example_runs(self):
    names = {}
    exec(_example("AdaptiveQuantizer("), names)
    self.assertEqual(names["codes"].book.shape, (8, 16, 16))
    self.assertEqual(names["values"].shape, names["z"].shape)
    self.assertTrue(jnp.isfinite(names["loss"]))
