import base64
import pathlib
import re
import urllib.parse
from xml.etree import ElementTree

from absl.testing import parameterized

from experiments.study import page

_TABLE = """\
Table 1: A & B, mnist

| name | loss |
|---|---|
| a\\|b | **0.5** |
"""


# An SVG as matplotlib writes it, with all characters that a URL may trip over.
_SVG = """\
<?xml version="1.0" encoding="utf-8"?>
<svg xmlns="http://www.w3.org/2000/svg" width="9pt"
 height="9pt">
 <path id="m1" d="M 0 0
L 9 9
" style="font-family: 'DejaVu Sans'; fill: #ffffff"/>
 <text>50% &lt; 1 \u2212 x</text>
</svg>
"""


def _write(root: pathlib.Path, name: str, svg: str, png: bytes) -> None:
  (root / "figures").mkdir(exist_ok=True)
  (root / "figures" / f"{name}.svg").write_text(svg, encoding="utf-8")
  (root / "figures" / f"{name}.png").write_bytes(png)


def _contents(node: ElementTree.Element) -> list:
  """Returns all that an SVG shows, without what white space it has."""
  return [
    (one.tag, (one.text or "").strip())
    + tuple((key, value.split()) for key, value in one.items())
    for one in node.iter()
  ]


class PageTest(parameterized.TestCase):
  def test_tables_figures_and_notes_are_in_one_file(self):
    root = pathlib.Path(self.create_tempdir())
    _write(root, "gaps", _SVG, b"pixels")
    text = page.make(
      root,
      {"mnist": [_TABLE]},
      {"mnist": [page.Figure("gaps", "Gaps < 1")]},
      ["left <out>"],
    )
    self.assertIn("<h3>Table 1: A &amp; B, mnist</h3>", text)
    self.assertIn("<tr><th>name</th><th>loss</th></tr>", text)
    self.assertIn("<tr><td>a|b</td><td><b>0.5</b></td></tr>", text)
    self.assertIn(base64.b64encode(b"pixels").decode(), text)
    self.assertIn("<figcaption>Gaps &lt; 1</figcaption>", text)
    self.assertIn("<p>left &lt;out&gt;</p>", text)
    self.assertNotIn("All data sets", text)

  def test_figures_of_all_data_sets_come_last(self):
    root = pathlib.Path(self.create_tempdir())
    _write(root, "all", _SVG, b"pixels")
    figures = {"": [page.Figure("all", "All of them.")]}
    text = page.make(root, {"mnist": [_TABLE]}, figures, [])
    self.assertGreater(text.index("All of them."), text.index("Table 1"))
    self.assertIn("<h2>All data sets</h2>", text)

  @parameterized.parameters((10, "image/png;base64"), (9000, "image/svg+xml"))
  def test_the_smaller_file_of_a_figure_is_in_it_once(self, pixels, kind):
    root = pathlib.Path(self.create_tempdir())
    _write(root, "gaps", _SVG, bytes(pixels))
    figures = {"mnist": [page.Figure("gaps", "Gaps.")]}
    text = page.make(root, {"mnist": [_TABLE]}, figures, [])
    without = page.make(root, {"mnist": [_TABLE]}, {}, [])
    urls = re.findall("data:([^,]*),", text)
    self.assertEqual(urls, [kind])
    smaller = min(4 * pixels / 3, 1.2 * len(_SVG))
    self.assertLess(len(text) - len(without) - smaller, 120)

  def test_the_drawing_of_a_figure_is_in_it_as_it_is(self):
    root = pathlib.Path(self.create_tempdir())
    _write(root, "gaps", _SVG, bytes(9000))
    figures = {"mnist": [page.Figure("gaps", "It's one.")]}
    text = page.make(root, {"mnist": [_TABLE]}, figures, [])
    (url,) = re.findall("<img src='data:image/svg[+]xml,([^']*)' alt=", text)
    self.assertEmpty(set(url) & set("#&\n"))
    self.assertEqual(
      _contents(ElementTree.fromstring(urllib.parse.unquote(url))),
      _contents(ElementTree.fromstring(_SVG.partition("?>")[2])),
    )
