"""No program knows kinds of quantizers: all of them ask the model."""

import pathlib
import re

from absl.testing import parameterized

_ROOT = pathlib.Path(__file__).parents[2]
_ASKS = re.compile(
  r"isinstance\([^)]*(?:Quantizer|Codes)\b|\bkind\s*[=!]=|is_adaptive|is_fixed"
)


class KindsTest(parameterized.TestCase):
  @parameterized.parameters("experiments", "benchmarks")
  def test_nothing_asks_of_which_kind_a_quantizer_is(self, folder):
    found = [
      f"{path.relative_to(_ROOT)}: {line.strip()}"
      for path in sorted((_ROOT / folder).rglob("*.py"))
      for line in path.read_text().splitlines()
      if _ASKS.search(line)
    ]
    self.assertEqual(found, [])

  def test_what_it_looks_for_is_found(self):
    for line in (
      'if config.quantizer.kind == "adaptive":',
      "if isinstance(model.quantizer, AdaptiveQuantizer):",
      "return isinstance(x, (VectorQuantizer, FSQ))",
    ):
      self.assertRegex(line, _ASKS)
