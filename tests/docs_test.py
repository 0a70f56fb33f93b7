"""The examples of the documentation run, one page at a time."""

import pathlib
import re

from absl.testing import parameterized
import jax.numpy as jnp
import numpy as np

_DOCS = pathlib.Path(__file__).parents[1] / "docs"


def run_page(name):
  """Runs the Python examples of a page in order; returns what they define."""
  names = {}
  text = (_DOCS / name).read_text()
  examples = re.findall(r"```python\n(.*?)```", text, re.S)
  exec("\n".join(examples), names)
  return names


class DocsTest(parameterized.TestCase):
  def test_codebooks(self):
    names = run_page("codebooks.md")
    self.assertEqual(names["total"].counts.sum(), 4 * 16 * 16)
    frozen, embedding = names["is_frozen"], names["embedding"]
    # The last example updates all of them; so see that both kinds exist.
    self.assertEqual(int(frozen.sum()), 100)
    moved = names["variables"]["codebook"]["embedding"] != embedding
    self.assertTrue(moved.any())
    self.assertTrue(jnp.isfinite(names["result"].loss))
    self.assertEqual(names["result"].metrics["nonfinite_points"], 0)
    np.testing.assert_array_equal(names["mask"][3], False)

  def test_architecture(self):
    names = run_page("architecture.md")
    self.assertLen(names["quantizer"].streams, 3)
    self.assertEqual(names["is_sent"].shape, (2, 4, 4))
