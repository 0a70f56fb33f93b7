import base64
import pathlib

from absl.testing import parameterized

from experiments.study import page

_TABLE = """\
Table 1: A & B, mnist

| name | loss |
|---|---|
| a\\|b | **0.5** |
"""


class PageTest(parameterized.TestCase):
  def test_tables_figures_and_notes_are_in_one_file(self):
    root = pathlib.Path(self.create_tempdir())
    (root / "figures").mkdir()
    (root / "figures" / "gaps.png").write_bytes(b"pixels")
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
    (root / "figures").mkdir()
    (root / "figures" / "all.png").write_bytes(b"pixels")
    figures = {"": [page.Figure("all", "All of them.")]}
    text = page.make(root, {"mnist": [_TABLE]}, figures, [])
    self.assertGreater(text.index("All of them."), text.index("Table 1"))
    self.assertIn("<h2>All data sets</h2>", text)
